"""Image files, and directories with a folder of images for each class."""

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError

SUFFIXES: Final = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")
#: What Pillow may take a file for, whatever its name says: it would run Ghostscript on PostScript.
FORMATS: Final = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF")


def is_image(path: Path) -> bool:
    """Return whether a file has the name of an image."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def class_folders(directory: Path) -> list[Path]:
    """Return the folders in a directory that hold images, sorted by name: one for each class."""
    folders = sorted(path for path in directory.iterdir() if path.is_dir() and not path.name.startswith("."))
    return [folder for folder in folders if any(map(is_image, folder.iterdir()))]


def list_images(directory: Path, class_names: Sequence[str]) -> tuple[list[Path], NDArray[np.int32]]:
    """Return the images in the classes' folders, and the class of each; a folder may be missing."""
    folders = [sorted(filter(is_image, (directory / name).glob("*"))) for name in class_names]
    paths = [path for folder in folders for path in folder]
    return paths, np.repeat(np.arange(len(folders), dtype=np.int32), [len(folder) for folder in folders])


def read_images(paths: Sequence[Path], *, size: tuple[int, int], color: str) -> NDArray[np.uint8]:
    """Read images, scaled to (height, width), as (n, height, width, channels), 0 to 255.

    There are 3 channels if the color is ``rgb``, 1 if it is ``grayscale``.

    Raises:
        DataError: If an image cannot be read; the message names it.
    """
    images = np.empty((len(paths), *size, 3 if color == "rgb" else 1), np.uint8)
    for image, path in zip(images, paths, strict=True):
        image[...] = read_image(path, size=size, color=color)
    return images


def read_image(path: Path, *, size: tuple[int, int], color: str) -> NDArray[np.uint8]:
    """Read one image; see `read_images`."""
    from PIL import Image

    try:
        # As Pillow advises, refuse hundreds of megapixels, which a small file can hold.
        with warnings.catch_warnings(), Image.open(path, formats=FORMATS) as opened:
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            converted = opened.convert("RGB" if color == "rgb" else "L")
            if converted.size != (size[1], size[0]):
                converted = converted.resize((size[1], size[0]), Image.Resampling.BILINEAR)
            array = np.asarray(converted, np.uint8)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"Image {str(path)!r} cannot be read: {str(error) or type(error).__name__}.") from error
    return array.reshape(*size, -1)


def image_batches(paths: Sequence[Path], *, size: tuple[int, int], color: str, n: int) -> Iterator[NDArray[np.uint8]]:
    """Read images in batches, so that any number of them fits in memory."""
    for start in range(0, len(paths), n):
        yield read_images(paths[start : start + n], size=size, color=color)
