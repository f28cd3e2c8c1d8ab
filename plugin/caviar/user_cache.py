"""What holds for all of a user's homes and can be made anew: where it is kept, and how it is told that it still holds.

Whatever is kept here has all that it depends on in its name, or in the key that its name is a digest of; nothing else
may change it. docs/design.md has the list, and tests change each of these alone.
"""

import functools
import hashlib
import logging
import shutil
import time
from pathlib import Path
from typing import Final

import platformdirs

from .atomic_write import write_whole

_logger = logging.getLogger(__name__)

_UNUSED_S: Final = 30 * 86_400.0
_DIGEST_BYTES: Final = hashlib.sha256().digest_size


def user_cache() -> Path:
    """Return the directory, on Linux ``optuna-caviar`` in ``XDG_CACHE_HOME`` or ``~/.cache``; nothing is created."""
    return platformdirs.user_cache_path("optuna-caviar")


def sealed(content: bytes) -> bytes:
    """Return a content as `load_kept` takes it: behind its digest."""
    return hashlib.sha256(content).digest() + content


def keep(path: Path, content: bytes) -> None:
    """Keep a file whose content is checked when it is loaded; a full disk is no reason to fail."""
    try:
        write_whole(path, sealed(content), durable=False)
    except OSError as error:
        _logger.debug("%s cannot be kept, and will be made anew: %s", path, error)


def load_kept(path: Path) -> bytes | None:
    """Return what `keep` kept; None where there is nothing, or where it is cut off or damaged."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    digest, content = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    return content if hashlib.sha256(content).digest() == digest else None


def remove_unused(directory: Path, pattern: str) -> None:
    """Remove the files and directories of a pattern that nothing was added to for a month; other versions made them."""
    for path in directory.glob(pattern):
        if time.time() - path.stat().st_mtime > _UNUSED_S:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


@functools.cache
def sources_digest(*parts: str) -> str:
    """Return a digest of some folders and modules of this package, by default of all: what they make depends on it."""
    package = Path(__file__).parent
    roots = [package / part for part in parts] or [package]
    digest = hashlib.sha256()
    for source in sorted(path for root in roots for path in (root.rglob("*.py") if root.is_dir() else [root])):
        digest.update(f"{source.relative_to(package)}\n".encode() + source.read_bytes())
    return digest.hexdigest()[:16]
