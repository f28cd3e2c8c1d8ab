"""The study file: what it may say, how it is read, and how two of them differ."""

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from .config import MAX_EPOCHS
from .errors import SpecError, nearest_name
from .parameters import MAX_WHOLE
from .space import DEFAULT_SPACE_TABLE, SearchSpace, parse_space, space_table
from .study_file import read_table

METRICS: tuple[str, ...] = ("val_accuracy", "val_loss", "val_balanced_accuracy", "val_macro_f1", "accuracy", "loss")
#: Those that give every class the same say; trainers compute them only where one of them is asked for.
CLASS_METRICS: tuple[str, ...] = ("val_balanced_accuracy", "val_macro_f1")
CLASS_WEIGHTS: tuple[str, ...] = ("balanced",)
SAMPLERS: tuple[str, ...] = ("random", "grid", "qmc", "tpe", "zoom", "cmaes", "gp")
PRUNERS: tuple[str, ...] = (
    *("none", "promotion", "median", "percentile", "successive_halving", "hyperband", "patient", "threshold"),
    "wilcoxon",
)
OUTPUTS: tuple[Literal["logits"], Literal["probabilities"]] = ("logits", "probabilities")
TRAINERS: tuple[str, ...] = ("auto", "fleet", "solo")
COLUMN_KINDS: tuple[str, ...] = ("number", "category", "ignore")
IMAGE_COLORS: tuple[str, ...] = ("rgb", "grayscale")
#: What a resumed study may change: how much is run and by whom, not what is searched.
CHANGEABLE: frozenset[str] = frozenset({"search.trials", "search.timeout_s", "search.workers", "search.trainer"})

#: Every look at a study reads its trials. A billion seconds are 31 years; threads cannot wait much longer.
MAX_TRIALS = 1_000_000
MAX_SECONDS = 1e9

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataSpec:
    """The study file's ``[data]``.

    Attributes:
        dataset: A TFDS name, a directory of a prepared one, ``package.module:function`` that returns arrays, a table
            (``.csv``, ``.tsv``, ``.parquet``), an ``.npz`` file, or a directory with a folder of images for each class.
        validation_fraction: Share of the training split that is held out to judge trials, in (0, 1).
        label: The column of a table that has the classes.
        test: A file with the test split of a table; None to cut it off.
        test_fraction: Share of the examples that is cut off to test on, where the data has no test split, in (0, 1).
        columns: Column of a table → ``number``, ``category`` or ``ignore``, where what is inferred is wrong.
        image_size: Height and width to which a folder's images are scaled.
        image_color: ``rgb`` or ``grayscale``, of a folder's images.
    """

    dataset: str
    validation_fraction: float = 0.2
    label: str | None = None
    test: str | None = None
    test_fraction: float = 0.2
    columns: Mapping[str, str] = dataclasses.field(default_factory=dict)
    image_size: tuple[int, int] | None = None
    image_color: str = "rgb"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ObjectiveSpec:
    """The study file's ``[objective]``.

    Attributes:
        metric: What is optimised; losses are minimised, all others maximised.
        epochs: Passes over the training split for a trial that is not pruned.
        network: ``package.module:function`` that builds the network, or None for the configurable dense one.
        output: What that network gives, one of ``OUTPUTS``, or None to find out from what it does.
        class_weight: ``balanced`` weighs an example of class c by n / (n_classes · n_c) in the training loss; None
            weighs all alike.
    """

    metric: str = "val_accuracy"
    epochs: int = 20
    network: str | None = None
    output: Literal["logits", "probabilities"] | None = None
    class_weight: str | None = None

    @property
    def direction(self) -> Literal["maximize", "minimize"]:
        """The way the metric is optimised."""
        return direction_of(self.metric)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchSpec:
    """The study file's ``[search]``.

    Attributes:
        trials: Budget: how many trials finish (COMPLETE or PRUNED); failed ones do not count.
        sampler: One of ``SAMPLERS``, or ``package.module:Class``.
        sampler_options: The sampler's own arguments; for the grid, ``points`` per range; for ``zoom``, ``stages``,
            ``keep`` and ``tiers``.
        pruner: One of ``PRUNERS``, or ``package.module:Class``.
        pruner_options: The pruner's own arguments.
        lease_s: Seconds without a heartbeat after which a trial is handed to another worker.
        checkpoint_s: Seconds of training between a trial's checkpoints.
        retries: How often a trial is handed on after its worker's death, or run anew after it failed.
        timeout_s: Seconds after which no new trial is started, or None for no limit.
        workers: Processes that share the study.
        trainer: ``fleet`` trains many networks in one program, ``solo`` one at a time; ``auto`` takes the fleet
            wherever it can train the networks, which is for all that the space describes.
    """

    trials: int = 50
    sampler: str = "zoom"
    sampler_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    pruner: str = "promotion"
    pruner_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    lease_s: float = 30.0
    checkpoint_s: float = 30.0
    retries: int = 2
    timeout_s: float | None = None
    workers: int = 1
    trainer: str = "auto"


@dataclasses.dataclass(frozen=True, kw_only=True)
class StudySpec:
    """A whole study file, checked.

    Attributes:
        name: The study's name, in Optuna and as MLflow's experiment.
        seed: From which every random choice of the study is derived.
        data: What is learned.
        objective: What is optimised.
        search: How it is searched.
        space: What is searched.
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


def direction_of(metric: str) -> Literal["maximize", "minimize"]:
    """Return the way a metric is optimised.

    Raises:
        SpecError: If the metric is unknown.
    """
    if metric not in METRICS:
        raise SpecError(f"No metric is called {metric!r}. {nearest_name(metric, METRICS)}")
    return "minimize" if metric.endswith("loss") else "maximize"


def check_class_weight(value: object, *, where: str) -> None:
    """Raise SpecError unless a class weight is ``balanced``."""
    if value not in CLASS_WEIGHTS:
        raise SpecError(f"{where} must be 'balanced', or left out, but got {value!r}.")


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
    """Check a study file's contents.

    Raises:
        SpecError: If a key, a type or a value is not allowed.
    """
    _check_keys("", table, ("name", "seed", "data", "objective", "search", "space"))
    name = _required(table, "name", str, "")
    if not _NAME.fullmatch(name):
        raise SpecError(
            f"name must be letters, digits, '.', '_' and '-', begin with a letter or digit and be at most 100 long, "
            f"but got {name!r}."
        )
    seed = _take(table, "seed", int, "", default=0)
    if not 0 <= seed < 2**32:
        raise SpecError(f"seed must be a whole number from 0 to {2**32 - 1}, but got {seed}.")
    objective = _parse_objective(_take(table, "objective", dict, "", default={}))
    search = _parse_search(_take(table, "search", dict, "", default={}))
    if search.trainer == "fleet" and objective.network is not None:
        raise SpecError(
            f"search.trainer is 'fleet', but fleets train the networks that [space] describes, not those of "
            f"{objective.network!r}. Set it to auto or solo."
        )
    return StudySpec(
        name=name,
        seed=seed,
        data=_parse_data(_required(table, "data", dict, "")),
        objective=objective,
        search=search,
        space=parse_space(
            _take(table, "space", dict, "", default=dict(DEFAULT_SPACE_TABLE)), own_names=objective.network is not None
        ),
    )


def spec_table(spec: StudySpec) -> dict[str, Any]:
    """Return the study file's contents, every default written out, that ``parse_spec`` reads back to the same spec."""
    return {
        "name": spec.name,
        "seed": spec.seed,
        "data": _data_table(spec.data),
        "objective": _without_none(dataclasses.asdict(spec.objective)),
        "search": _without_none(dataclasses.asdict(spec.search)),
        "space": space_table(spec.space),
    }


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
    _check_keys("data.", table, tuple(field.name for field in dataclasses.fields(DataSpec)))
    dataset = _required(table, "dataset", str, "data.")
    fraction = _take(table, "validation_fraction", float, "data.", default=0.2)
    if not 0 < fraction < 1:
        raise SpecError(f"data.validation_fraction must be above 0 and below 1, but got {fraction}.")
    test_fraction = _take(table, "test_fraction", float, "data.", default=0.2)
    if not 0 < test_fraction < 1:
        raise SpecError(f"data.test_fraction must be above 0 and below 1, but got {test_fraction}.")
    columns = _take(table, "columns", dict, "data.", default={})
    for name, kind in columns.items():
        if kind not in COLUMN_KINDS:
            raise SpecError(f"data.columns.{name} cannot be {kind!r}. {nearest_name(str(kind), COLUMN_KINDS)}")
    color = _take(table, "image_color", str, "data.", default="rgb")
    if color not in IMAGE_COLORS:
        raise SpecError(f"data.image_color cannot be {color!r}. {nearest_name(color, IMAGE_COLORS)}")
    return DataSpec(
        dataset=dataset,
        validation_fraction=fraction,
        label=_take(table, "label", str, "data.", default=None),
        test=_take(table, "test", str, "data.", default=None),
        test_fraction=test_fraction,
        columns=dict(columns),
        image_size=_parse_image_size(table.get("image_size")),
        image_color=color,
    )


def _parse_image_size(value: Any) -> tuple[int, int] | None:
    if value is None:
        return None
    sides = [value, value] if isinstance(value, int) else value
    if not (isinstance(sides, list | tuple) and len(sides) == 2 and all(type(side) is int for side in sides)):
        raise SpecError(f"data.image_size must be a number of pixels or [height, width], but got {value!r}.")
    height, width = (_within(side, 1, 4096, "data.image_size") for side in sides)
    return height, width


def _parse_objective(table: Mapping[str, Any]) -> ObjectiveSpec:
    _check_keys("objective.", table, tuple(field.name for field in dataclasses.fields(ObjectiveSpec)))
    metric = _take(table, "metric", str, "objective.", default="val_accuracy")
    direction_of(metric)
    network = _take(table, "network", str, "objective.", default=None)
    if network is not None and not is_import_path(network):
        raise SpecError(f"objective.network must be `package.module:function`, but got {network!r}.")
    output = _take(table, "output", str, "objective.", default=None)
    if output is not None and output not in OUTPUTS:
        raise SpecError(f"objective.output is not {output!r}. {nearest_name(output, OUTPUTS)}")
    if output is not None and network is None:
        raise SpecError(
            f"objective.output is {output!r}, but it says what the network of objective.network gives, and there is "
            "none. Remove it."
        )
    class_weight = _take(table, "class_weight", str, "objective.", default=None)
    if class_weight is not None:
        check_class_weight(class_weight, where="objective.class_weight")
    return ObjectiveSpec(
        metric=metric,
        epochs=_within(_take(table, "epochs", int, "objective.", default=20), 1, MAX_EPOCHS, "objective.epochs"),
        network=network,
        output=output,
        class_weight=class_weight,
    )


def _parse_search(table: Mapping[str, Any]) -> SearchSpec:
    if "stages" in table:
        raise SpecError(
            "[[search.stages]] is no longer run. The sampler 'zoom' goes from coarse to fine within one study; "
            "`caviar zoom STUDY` searches on in a narrower one. Remove it from the study file."
        )
    _check_keys("search.", table, tuple(field.name for field in dataclasses.fields(SearchSpec)))
    default = SearchSpec()
    for key, names in (("sampler", SAMPLERS), ("pruner", PRUNERS), ("trainer", TRAINERS)):
        name = _take(table, key, str, "search.", default=getattr(default, key))
        if name not in names and not (key != "trainer" and is_import_path(name)):
            own = "" if key == "trainer" else " Your own: `package.module:Class`."
            raise SpecError(f"No {key} is called {name!r}. {nearest_name(name, names)}{own}")
    timeout_s = _take(table, "timeout_s", float, "search.", default=None)
    return SearchSpec(
        trials=_within(_take(table, "trials", int, "search.", default=default.trials), 1, MAX_TRIALS, "search.trials"),
        sampler=table.get("sampler", default.sampler),
        sampler_options=_take(table, "sampler_options", dict, "search.", default={}),
        pruner=table.get("pruner", default.pruner),
        pruner_options=_take(table, "pruner_options", dict, "search.", default={}),
        lease_s=_within(
            _take(table, "lease_s", float, "search.", default=default.lease_s), 1, MAX_SECONDS, "search.lease_s"
        ),
        checkpoint_s=_within(
            _take(table, "checkpoint_s", float, "search.", default=default.checkpoint_s),
            0,
            MAX_SECONDS,
            "search.checkpoint_s",
        ),
        retries=_within(_take(table, "retries", int, "search.", default=default.retries), 0, 1000, "search.retries"),
        timeout_s=None if timeout_s is None else _within(timeout_s, 1, MAX_SECONDS, "search.timeout_s"),
        workers=_within(_take(table, "workers", int, "search.", default=default.workers), 1, 1000, "search.workers"),
        trainer=table.get("trainer", default.trainer),
    )


def is_import_path(text: str) -> bool:
    """Tell whether a text has the form ``package.module:name``."""
    return re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", text) is not None


def _check_keys(prefix: str, table: Mapping[str, Any], allowed: Sequence[str]) -> None:
    for key in table:
        if key not in allowed:
            raise SpecError(f"The study file has no key {prefix + key!r}. {nearest_name(key, allowed)}")


def _required(table: Mapping[str, Any], key: str, kind: type, prefix: str) -> Any:
    if key not in table:
        raise SpecError(f"The study file needs {prefix + key!r}, but it is missing.")
    return _take(table, key, kind, prefix, default=None)


def _take(table: Mapping[str, Any], key: str, kind: type, prefix: str, *, default: Any) -> Any:
    if key not in table:
        return default
    value = table[key]
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(_within(value, -MAX_WHOLE, MAX_WHOLE, prefix + key))
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        kinds = {str: "a text", int: "a whole number", float: "a number", dict: "a table", list: "a list"}
        raise SpecError(f"{prefix + key} must be {kinds[kind]}, but got {value!r}.")
    return value


def _within(value: Any, low: float, high: float, key: str) -> Any:
    if not value >= low:  # nor is NaN
        raise SpecError(f"{key} must be at least {low}, but got {value}.")
    if value > high:
        raise SpecError(f"{key} must be at most {high:.16g}, but got {value}.")
    return value


def _data_table(data: DataSpec) -> dict[str, Any]:
    """Return ``[data]``; what few studies set only where it is set, so that the digests of older studies hold."""
    default, table = DataSpec(dataset=""), dataclasses.asdict(data)
    always = ("dataset", "validation_fraction")
    return {name: value for name, value in table.items() if name in always or value != getattr(default, name)}


def _without_none(table: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in table.items() if value is not None}


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
