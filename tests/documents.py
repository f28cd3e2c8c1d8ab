"""README.md and the pages of docs/, taken apart: their blocks of code, their commands, their links."""

import dataclasses
import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parent.parent
#: Every page that users read, by its path in the project.
PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Command:
    """A command that a page prints in a block ``console``, with the output printed below it."""

    page: str
    line: str
    output: tuple[str, ...]

    @property
    def words(self) -> list[str]:
        return shlex.split(self.line.partition(" > ")[0])

    def __str__(self) -> str:
        return f"{self.page}: {self.line}"


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGES[page], flags=re.DOTALL | re.MULTILINE)


def commands(page: str) -> list[Command]:
    found = []
    for block in blocks(page, "console"):
        first, *rest = block.split("$ ")
        assert not first, f"{page}: a block `console` begins with `$ `, not with {first!r}"
        for part in rest:
            line, *output = part.rstrip("\n").split("\n")
            found.append(Command(page=page, line=line, output=tuple(output)))
    return found


def indented_commands(page: str) -> list[Command]:
    lines = re.findall(r"^    (caviar .*)$", _without_blocks(page), flags=re.MULTILINE)
    return [Command(page=page, line=line, output=()) for line in lines]


def inline_code(page: str) -> list[str]:
    """Return what stands between single backquotes, line breaks as spaces."""
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", _without_blocks(page))]


def links(page: str) -> list[str]:
    """Return the addresses that a page links or shows, those on the web left out."""
    text = _without_blocks(page)
    found = [*re.findall(r"\]\(([^)]+)\)", text), *re.findall(r'src="([^"]+)"', text)]
    return [link for link in found if not link.startswith("http")]


def anchors(page: str) -> set[str]:
    """Return the names under which GitHub lets a page's headings be linked."""
    titles = re.findall(r"^#+ (.*)$", _without_blocks(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def _without_blocks(page: str) -> str:
    return re.sub(r"^```.*?^```$", "", PAGES[page], flags=re.DOTALL | re.MULTILINE)
