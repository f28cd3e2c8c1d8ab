"""The study file: what it may say, how it is read, and how two of them differ."""

import dataclasses
import hashlib
import json
import math
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from .config import MAX_EPOCHS
from .errors import SpecError, nearest_name
from .metrics import Direction, direction_of
from .sampler_table import SAMPLERS
from .space import DEFAULT_SPACE_TABLE, SearchSpace, parse_space, space_table
from .study_file import check_keys, check_range, field_values, read_table, require, typed

PRUNERS: tuple[str, ...] = (
    *("none", "promotion", "median", "percentile", "successive_halving", "hyperband", "patient", "threshold"),
    "wilcoxon",
)
OUTPUTS: tuple[Literal["logits"], Literal["probabilities"]] = ("logits", "probabilities")
TRAINERS: tuple[str, ...] = ("auto", "fleet", "solo")
ENGINES: tuple[str, ...] = ("processes", "ray")
BABYSAT: tuple[str, ...] = ("ignore", "learn")
COLUMN_KINDS: tuple[str, ...] = ("number", "category", "ignore")
IMAGE_COLORS: tuple[str, ...] = ("rgb", "grayscale")
#: What a resumed study may change: how much is run and by whom, not what is searched.
CHANGEABLE: frozenset[str] = frozenset(
    f"search.{key}"
    for key in (
        *("trials", "timeout_s", "workers", "trainer", "babysat"),
        *("engine", "cpus_per_worker", "gpus_per_worker"),
    )
)

#: Every look at a study reads its trials. A billion seconds are 31 years; threads cannot wait much longer.
MAX_TRIALS = 1_000_000
MAX_SECONDS = 1e9

#: The least and the most that a number may be.
_RANGES: Mapping[str, tuple[float, float]] = {
    "epochs": (1, MAX_EPOCHS),
    "trials": (1, MAX_TRIALS),
    "lease_s": (1, MAX_SECONDS),
    "checkpoint_s": (0, MAX_SECONDS),
    "retries": (0, 1000),
    "timeout_s": (1, MAX_SECONDS),
    "workers": (1, 1000),
    "cpus_per_worker": (0.01, 10_000),
    "gpus_per_worker": (0, 1000),
}

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_IMPORT_PATH = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataSpec:
    """The study file's ``[data]``."""

    # A TFDS name, a directory of a prepared one, ``package.module:function`` that returns arrays, a table (``.csv``,
    # ``.tsv``, ``.parquet``), an ``.npz`` file, or a directory with a folder of images for each class.
    dataset: str
    validation_fraction: float = 0.2  # of the training split, held out to judge trials, in (0, 1)
    label: str | None = None  # the column of a table that has the classes
    test: str | None = None  # a file with the test split of a table; None to cut it off
    test_fraction: float = 0.2  # of the examples, cut off to test on where the data has no test split, in (0, 1)
    # Column of a table → ``number``, ``category`` or ``ignore``, where what is inferred is wrong.
    columns: Mapping[str, str] = dataclasses.field(default_factory=dict)
    image_size: tuple[int, int] | None = None  # height and width to which a folder's images are scaled
    image_color: str = "rgb"  # of a folder's images, one of ``IMAGE_COLORS``


@dataclasses.dataclass(frozen=True, kw_only=True)
class ObjectiveSpec:
    """The study file's ``[objective]``."""

    metric: str = "val_accuracy"  # losses are minimised, all others maximised
    epochs: int = 20  # of a trial that is not pruned
    network: str | None = None  # ``package.module:function`` that builds the network; None for the dense one
    # What that network gives; None to find out from what it does.
    output: Literal["logits", "probabilities"] | None = None
    # ``balanced`` weighs an example of class c by n / (n_classes · n_c) in the training loss; a mapping from class to
    # weight, 1 where a class is not named, weighs by ratio; None weighs all alike.
    class_weight: str | Mapping[str, float] | None = None

    @property
    def direction(self) -> Direction:
        """The way the metric is optimised."""
        return direction_of(self.metric)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchSpec:
    """The study file's ``[search]``."""

    trials: int = 50  # budget: how many finish (COMPLETE or PRUNED); failed ones do not count
    sampler: str = "zoom"  # one of ``SAMPLERS``, or ``package.module:Class``
    # The sampler's own arguments; for the grid, ``points`` per range; for ``zoom``, ``stages``, ``keep`` and ``tiers``.
    sampler_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    pruner: str = "promotion"  # one of ``PRUNERS``, or ``package.module:Class``
    pruner_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # the pruner's own arguments
    lease_s: float = 30.0  # seconds without a heartbeat after which a trial is handed to another worker
    checkpoint_s: float = 30.0  # seconds of training between a trial's checkpoints
    retries: int = 2  # how often a trial is handed on after its worker's death, or run anew after it failed
    timeout_s: float | None = None  # seconds after which no new trial is started
    workers: int = 1  # how many share the study
    engine: str = "processes"  # where they run: on this machine, or on a cluster of ``ray``
    # What Ray reserves for each of them. The share of a GPU may be a fraction; above 1 it is a whole number.
    cpus_per_worker: float = 1.0
    gpus_per_worker: float = 0.0
    # ``fleet`` trains many networks in one program, ``solo`` one at a time; ``auto`` takes the fleet wherever it can
    # train the networks, which is for all that the space describes.
    trainer: str = "auto"
    # Whether samplers and pruners ``learn`` from trials that were changed by hand, or ``ignore`` them.
    babysat: str = "ignore"


@dataclasses.dataclass(frozen=True, kw_only=True)
class StudySpec:
    """A whole study file, checked; ``name`` names the study in Optuna and its experiment in MLflow.

    Every random choice of the study derives from ``seed``.
    """

    name: str
    seed: int = 0
    data: DataSpec
    objective: ObjectiveSpec = ObjectiveSpec()
    search: SearchSpec = SearchSpec()
    space: SearchSpace = dataclasses.field(default_factory=lambda: parse_space(DEFAULT_SPACE_TABLE))

    @property
    def trains_in_fleets(self) -> bool:
        """Whether its trials train in fleets: unless that was refused, all networks but those of a function do."""
        return self.search.trainer != "solo" and self.objective.network is None


def check_class_weight(value: object, *, where: str) -> None:
    """Raise SpecError unless class weights are ``balanced``, or a mapping from names of classes to positive numbers."""
    if not isinstance(value, Mapping):
        if value != "balanced":
            raise SpecError(f"{where} must be 'balanced' or a table of class and weight, but got {value!r}.")
        return
    for name, weight in value.items():
        is_number = isinstance(weight, int | float) and not isinstance(weight, bool)
        if not is_number or not 0 < weight < math.inf:
            raise SpecError(f"{where}.{name} must be a number above 0, but got {weight!r}.")


def read_spec(path: Path, *, settings: Sequence[str] = ()) -> StudySpec:
    """Read and check a study file.

    Args:
        path: A TOML file.
        settings: ``KEY=VALUE`` pairs that replace the file's, ``search.trials=60`` or ``space.dropout=0.1``; the value
            is read as TOML where it can be, else as text.

    Raises:
        SpecError: If the file cannot be read, or says something that is not allowed.
    """
    table = read_table(path, settings=settings)
    try:
        return parse_spec(table)
    except SpecError as error:
        raise type(error)(f"{path}: {error}") from error


def parse_spec(table: Mapping[str, Any]) -> StudySpec:
    """Check a study file's contents, or raise a SpecError for the first key, type or value that is not allowed."""
    check_keys("", table, ("name", "seed", "data", "objective", "search", "space"))
    for key in ("name", "data"):
        require(table, key)
    name = typed(table["name"], str, "name")
    if not _NAME.fullmatch(name):
        raise SpecError(
            f"name must be letters, digits, '.', '_' and '-', begin with a letter or digit and be at most 100 long, "
            f"but got {name!r}."
        )
    seed = typed(table.get("seed", 0), int, "seed")
    if not 0 <= seed < 2**32:
        raise SpecError(f"seed must be a whole number from 0 to {2**32 - 1}, but got {seed}.")
    objective = _parse_objective(typed(table.get("objective", {}), dict, "objective"))
    search = _parse_search(typed(table.get("search", {}), dict, "search"))
    space = typed(table.get("space", DEFAULT_SPACE_TABLE), dict, "space")
    if search.trainer == "fleet" and objective.network is not None:
        raise SpecError(
            f"search.trainer is 'fleet', but fleets train the networks that [space] describes, not those of "
            f"{objective.network!r}. Set it to auto or solo."
        )
    return StudySpec(
        name=name,
        seed=seed,
        data=_parse_data(typed(table["data"], dict, "data")),
        objective=objective,
        search=search,
        space=parse_space(space, own_names=objective.network is not None),
    )


def spec_table(spec: StudySpec) -> dict[str, Any]:
    """Return the study file's contents, every default written out, that ``parse_spec`` reads back to the same spec."""
    parts: dict[str, Any] = {"objective": spec.objective, "search": spec.search}
    given = {"data": _data_table(spec.data)} | {
        name: {key: value for key, value in dataclasses.asdict(part).items() if value is not None}
        for name, part in parts.items()
    }
    return {"name": spec.name, "seed": spec.seed, **given, "space": space_table(spec.space)}


def spec_digest(spec: StudySpec) -> str:
    """Return a SHA-256 of what a resumed study must share: all but the budget, the time and the workers."""
    kept = {key: value for key, value in _flat(spec_table(spec)).items() if key not in CHANGEABLE}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def spec_differences(stored: StudySpec, given: StudySpec) -> list[str]:
    """Name what a resumed study may not change and did, as ``objective.epochs: 20 → 30``, in the file's order."""
    old, new = _flat(spec_table(stored)), _flat(spec_table(given))
    keys = [*new, *(key for key in old if key not in new)]
    return [
        f"{key}: {_shown(old, key)} → {_shown(new, key)}"
        for key in keys
        if key not in CHANGEABLE and old.get(key) != new.get(key)
    ]


def _parse_data(table: Mapping[str, Any]) -> DataSpec:
    values = field_values(DataSpec, table, "data.", ranges=_RANGES, unchecked=("image_size",))
    require(table, "dataset", "data.")
    if "image_size" in values:
        values["image_size"] = _image_size(values["image_size"])
    data = DataSpec(**values)
    for key in ("validation_fraction", "test_fraction"):
        if not 0 < getattr(data, key) < 1:
            raise SpecError(f"data.{key} must be above 0 and below 1, but got {getattr(data, key)}.")
    chosen = {f"columns.{name}": (kind, COLUMN_KINDS) for name, kind in data.columns.items()}
    for key, (value, allowed) in {**chosen, "image_color": (data.image_color, IMAGE_COLORS)}.items():
        if value not in allowed:
            raise SpecError(f"data.{key} cannot be {value!r}. {nearest_name(str(value), allowed)}")
    return data


def _image_size(value: Any) -> tuple[int, int]:
    sides = [value, value] if isinstance(value, int) else value
    if not (isinstance(sides, list | tuple) and len(sides) == 2 and all(type(side) is int for side in sides)):
        raise SpecError(f"data.image_size must be a number of pixels or [height, width], but got {value!r}.")
    for side in sides:
        check_range(side, 1, 4096, "data.image_size")
    return sides[0], sides[1]


def _parse_objective(table: Mapping[str, Any]) -> ObjectiveSpec:
    class_weight = table.get("class_weight")
    if class_weight is not None:
        check_class_weight(class_weight, where="objective.class_weight")
    values = field_values(ObjectiveSpec, table, "objective.", ranges=_RANGES, unchecked=("class_weight",))
    objective = ObjectiveSpec(**values)
    network, output = objective.network, objective.output
    direction_of(objective.metric)
    if network is not None and not _IMPORT_PATH.fullmatch(network):
        raise SpecError(f"objective.network must be `package.module:function`, but got {network!r}.")
    if output is not None and output not in OUTPUTS:
        raise SpecError(f"objective.output is not {output!r}. {nearest_name(output, OUTPUTS)}")
    if output is not None and network is None:
        raise SpecError(
            f"objective.output is {output!r}, but there is no objective.network whose output it could describe. "
            "Remove it, or name a network."
        )
    return objective


def _parse_search(table: Mapping[str, Any]) -> SearchSpec:
    if "stages" in table:
        raise SpecError(
            "[[search.stages]] is no longer supported. The sampler 'zoom' goes from coarse to fine within one study; "
            "`caviar zoom STUDY` searches on in a narrower one. Remove it from the study file."
        )
    search = SearchSpec(**field_values(SearchSpec, table, "search.", ranges=_RANGES))
    own: dict[str, Collection[str]] = {"sampler": SAMPLERS, "pruner": PRUNERS}
    for key, names in {**own, "trainer": TRAINERS, "babysat": BABYSAT, "engine": ENGINES}.items():
        name = getattr(search, key)
        if name not in names and not (key in own and _IMPORT_PATH.fullmatch(name)):
            way = " Your own: `package.module:Class`." if key in own else ""
            raise SpecError(f"No {key} is called {name!r}. {nearest_name(name, names)}{way}")
    if search.gpus_per_worker > 1 and search.gpus_per_worker % 1:
        raise SpecError(
            f"search.gpus_per_worker is {search.gpus_per_worker}, but Ray shares out one GPU in fractions and several "
            "only whole. Give a number from 0 to 1, or a whole one."
        )
    return search


def _data_table(data: DataSpec) -> dict[str, Any]:
    """Return ``[data]``; what few studies set only where it is set, so that the digests of older studies hold."""
    default, table = DataSpec(dataset=""), dataclasses.asdict(data)
    always = ("dataset", "validation_fraction")
    return {name: value for name, value in table.items() if name in always or value != getattr(default, name)}


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, Mapping) and not prefix.startswith("space."):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def _shown(flat: Mapping[str, Any], key: str) -> str:
    return json.dumps(flat[key]) if key in flat else "(not there)"
