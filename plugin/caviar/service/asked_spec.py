"""What a study is created from that is asked and told: checked, and kept with the study."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Final

from ..errors import SpecError
from ..metrics import Direction
from ..search.pruners import make_pruner
from ..search.samplers import make_sampler_factory, try_sampler
from ..space import SearchSpace, parse_space, space_table
from ..spec import SearchSpec
from .network_study import check_search

MAX_PARAMETERS: Final = 200


@dataclasses.dataclass(frozen=True, kw_only=True)
class AskedSpec:
    """What an asked study was created with.

    Attributes:
        direction: Which way its metric is optimised.
        metric: What its clients measure, by any name.
        space: What is drawn, with names of the clients' own.
        search: Budget, sampler, pruner, lease and retries.
        seed: From which every draw derives.
        max_steps: The last step that a trial may report, plus one; hyperband shares it out.
    """

    direction: Direction
    metric: str
    space: SearchSpace
    search: SearchSpec
    seed: int
    max_steps: int

    def table(self) -> dict[str, Any]:
        """Return it ready for JSON."""
        search = self.search
        return {
            "direction": str(self.direction),
            "metric": self.metric,
            "space": space_table(self.space),
            "trials": search.trials,
            "sampler": search.sampler,
            "sampler_options": dict(search.sampler_options),
            "pruner": search.pruner,
            "pruner_options": dict(search.pruner_options),
            "lease_s": search.lease_s,
            "retries": search.retries,
            "seed": self.seed,
            "max_steps": self.max_steps,
        }


def parse_asked(table: Mapping[str, Any]) -> AskedSpec:
    """Check what a study shall be created with, and return it.

    Args:
        table: As ``AskedSpec.table`` has it, with types and ranges checked; a parameter of the space may also have
            ``type``, ``float`` or ``int``, for clients whose language cannot tell 1.0 from 1.

    Raises:
        SpecError: If the space, the sampler, the pruner or an option is not allowed.
    """
    keys = ("trials", "sampler", "sampler_options", "pruner", "pruner_options", "lease_s", "retries")
    search = SearchSpec(**{key: table[key] for key in keys})
    check_search(search)
    if search.pruner == "promotion":
        raise SpecError(
            "The pruner 'promotion' pauses trials, which a client cannot. Use successive_halving or median."
        )
    if len(table["space"]) > MAX_PARAMETERS:
        raise SpecError(f"The space has {len(table['space'])} parameters, and at most {MAX_PARAMETERS} are allowed.")
    space = parse_space({name: _typed(name, entry) for name, entry in table["space"].items()}, own_names=True)
    spec = AskedSpec(
        direction=Direction(table["direction"]),
        metric=table["metric"],
        space=space,
        search=search,
        seed=table["seed"],
        max_steps=table["max_steps"],
    )
    try_sampler(search, space, make_sampler_factory(search, space, seed=spec.seed))
    make_pruner(search, epochs=spec.max_steps)
    return spec


def _typed(name: str, entry: Any) -> Any:
    """Return a parameter of a space without its ``type``, its ends of that type."""
    if not isinstance(entry, Mapping) or "type" not in entry:
        return entry
    kind, rest = entry["type"], {key: value for key, value in entry.items() if key != "type"}
    ends = {key: rest[key] for key in ("low", "high") if key in rest}
    if kind not in ("float", "int") or "choices" in rest:
        raise SpecError(f"space.{name}.type must be float or int, and only of a range, but got {kind!r}.")
    for key, value in ends.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or (kind == "int" and value != int(value)):
            raise SpecError(f"space.{name}.{key} must be a number of the type {kind}, but got {value!r}.")
    return rest | {key: float(value) if kind == "float" else int(value) for key, value in ends.items()}
