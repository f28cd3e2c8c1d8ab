"""What the run and its Ray actors tell each other: JSON texts. Ray passes a text on as it is; nothing is unpickled."""

import dataclasses
import json
import time
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from .. import errors
from ..data.dataset import DatasetFacts
from ..errors import CaviarError
from ..spec import parse_spec, spec_table
from ..storage.home import Home
from ..storage.places import address_of, parse_files
from .engine import Died, WorkOrder
from .protocol import Refusal


@dataclasses.dataclass(frozen=True, kw_only=True)
class Begun:
    """An actor has given a worker process its order.

    Attributes:
        token: Names this order in this actor's present life; Ray may begin another life at any time.
        node: Ray's id of the node that the actor lives on.
        worker: The worker, for people: ``pid on host``.
    """

    token: str
    node: str
    worker: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gone:
    """The actor knows nothing of this order: Ray has restarted it since."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ended:
    """A worker has ended as it chose to."""

    ending: Literal["done", "recycle"]


Answer: TypeAlias = DatasetFacts | Begun | Gone | Ended | Died | Refusal
_KINDS: Final = {kind.__name__: kind for kind in (DatasetFacts, Begun, Gone, Ended, Died, Refusal)}


def answer_text(answer: Answer) -> str:
    """Return an actor's answer as a text that ``read_answer`` reads."""
    table = dataclasses.asdict(answer)
    if isinstance(answer, Refusal):
        table["kind"] = answer.kind.__name__
    return json.dumps([type(answer).__name__, table])


def read_answer(text: str) -> Answer:
    """Read an actor's answer.

    Raises:
        ValueError: If it is none.
    """
    try:
        name, table = json.loads(text)
        if name == Refusal.__name__:
            kind = getattr(errors, table["kind"])
            if not issubclass(kind, CaviarError):
                raise ValueError(f"{kind} is no error of ours")
            return Refusal(kind=kind, message=str(table["message"]))
        if name == DatasetFacts.__name__:
            table["feature_shape"] = tuple(table["feature_shape"])
        answer: Answer = _KINDS[name](**table)
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"a Ray actor answered {text[:200]!r}") from error
    return answer


def order_text(order: WorkOrder) -> str:
    """Return an order as a text that ``read_order`` reads, on whatever machine.

    A monotonic clock means nothing elsewhere, so the deadline travels by the time of day; machines agree on that to
    seconds, and no trial depends on it.
    """
    home = order.home
    table: dict[str, Any] = {field.name: getattr(order, field.name) for field in dataclasses.fields(order)}
    table["home"] = {
        "path": str(home.path),
        "files": address_of(home.files),
        "storage": home.storage,
        "tracking_uri": home.tracking_uri,
    }
    table["spec"] = spec_table(order.spec)
    if order.deadline_s is not None:
        table["deadline_s"] = order.deadline_s - time.monotonic() + time.time()
    return json.dumps(table)


def read_order(text: str) -> WorkOrder:
    """Read an order."""
    table = json.loads(text)
    home = table.pop("home")
    if table["deadline_s"] is not None:
        table["deadline_s"] += time.monotonic() - time.time()
    home |= {"path": Path(home["path"]), "files": parse_files(home["files"])}
    return WorkOrder(home=Home(**home), spec=parse_spec(table.pop("spec")), **table)
