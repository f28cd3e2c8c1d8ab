"""Listing data sets, and preparing one."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..data.catalogue import list_datasets
from ..data.prepare import prepare_dataset


def dataset_rows() -> list[dict[str, Any]]:
    """Return every data set that a study can name, prepared ones first."""
    rows = [dataclasses.asdict(entry) for entry in list_datasets()]
    for row in rows:
        row["directory"] = None if row["directory"] is None else str(row["directory"])
    return sorted(rows, key=lambda row: (not row["prepared"], row["name"]))


def prepare_row(name: str, *, manual_dir: Path | None = None) -> dict[str, Any]:
    """Prepare a TFDS data set and return its row."""
    directory = prepare_dataset(name, manual_dir=manual_dir)
    return next(row for row in dataset_rows() if row["directory"] == str(directory))


def dataset_table(rows: Sequence[Mapping[str, Any]], *, with_names: bool = True) -> str:
    """Return the rows as text: prepared data sets with their sizes, the others by name, or only how many they are."""
    lines = []
    for row in rows:
        if row["prepared"]:
            shape = "×".join(map(str, row["feature_shape"] or ())) or "?"
            sizes = f"{row['n_train']} train, {row['n_test']} test, {row['n_classes']} classes, features {shape}"
            lines.append(f"{row['name']}: {sizes}")
    others = [row["name"] for row in rows if not row["prepared"]]
    if others and with_names:
        lines += ["Not prepared (`caviar datasets prepare NAME` prepares one):", *(f"  {name}" for name in others)]
    elif others:
        lines.append(f"{len(others)} more can be prepared with `caviar datasets prepare NAME`; --all lists them.")
    return "\n".join(lines)
