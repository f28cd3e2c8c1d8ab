"""Which data sets there are, and preparing one."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..data.catalogue import list_datasets
from ..data.prepare import prepare_dataset


def dataset_rows() -> list[dict[str, Any]]:
    """Return every data set that a study can name without more ado, prepared ones first."""
    rows = [dataclasses.asdict(entry) for entry in list_datasets()]
    return sorted(rows, key=lambda row: (not row["prepared"], row["name"]))


def prepare_row(name: str, *, manual_dir: Path | None = None) -> dict[str, Any]:
    """Prepare a TFDS data set and return its row.

    Raises:
        DataError: If it is unknown, or cannot be downloaded.
    """
    return dataclasses.asdict(prepare_dataset(name, manual_dir=manual_dir))


def dataset_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows as text: the prepared ones with their sizes, the others by name."""
    lines = [_describe(row) for row in rows if row["prepared"]]
    others = [row["name"] for row in rows if not row["prepared"]]
    if others:
        lines += ["", "Not prepared (caviar datasets prepare NAME):", *(f"  {name}" for name in others)]
    return "\n".join(lines)


def _describe(row: Mapping[str, Any]) -> str:
    shape = "×".join(map(str, row["feature_shape"] or ())) or "?"
    return f"{row['name']}: {row['n_train']} train, {row['n_test']} test, {row['n_classes']} classes, features {shape}"
