"""What the parts of a path and the headers of a request may be, and where an answer's makings are."""

import asyncio
import threading
from typing import TYPE_CHECKING, Annotated, Any, Final

from anyio import CapacityLimiter
from fastapi import Path, Request
from pydantic import BaseModel, ConfigDict

from ..errors import FatalError, UnknownStudyError
from .answers import Refusal
from .asked_spec import AskedSpec
from .asking import AskedStudy, create_asked, open_asked
from .events import Streams
from .jobs import Jobs
from .recent import Recent
from .settings import ServiceSettings
from .store import Store

if TYPE_CHECKING:
    from ..storage.leased_storage import LeasedStorage

#: What a study may be called that a path names: as in a study file, with what archiving and zooms append.
STUDY_NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,149}$"
MAX_INT: Final = 2**31 - 1
_MOST_ASKED: Final = 100

StudyName = Annotated[str, Path(pattern=STUDY_NAME, description="The study's name.")]
TrialNumber = Annotated[int, Path(ge=0, le=MAX_INT, description="The trial's number in the study.")]


class Strict(BaseModel):
    """A body or a part of one: no other keys, no conversions, no NaN."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class _Said(BaseModel):
    message: str
    way_out: str | None = None


class ErrorAnswer(BaseModel):
    """What every refusal looks like."""

    error: _Said


#: For OpenAPI: the refusals that any request may meet.
REFUSALS: Final[dict[int | str, dict[str, Any]]] = {
    status: {"model": ErrorAnswer, "description": description}
    for status, description in {
        400: "The request, a study file or data is not right.",
        401: "The token is missing or wrong.",
        403: "The host, the origin or the header X-Caviar is not right.",
        404: "There is no such study, trial, champion, run or upload.",
        409: "It does not fit what is there: a lease that has run out, say.",
        413: "The body is too large.",
        415: "The body is of another type.",
        422: "A part of the request is of the wrong type, or outside its range.",
        429: "Too many requests, streams or jobs at a time.",
        503: "The database or a helper process is out of reach.",
    }.items()
}


class Makings:
    """What answers are made of: one of each for an app.

    Args:
        settings: The service's.
    """

    def __init__(self, settings: ServiceSettings) -> None:
        self.settings = settings
        self.store = Store(settings.home)
        self.recent = Recent()
        self.streams = Streams(self.store, settings)
        self.predictions = Jobs("predictions")
        self.reports = Jobs("reports")
        self.asking = CapacityLimiter(8)
        self.study_shown = asyncio.Event()  # on a page
        self.n_receiving = 0  # files
        self.n_controlling = 0  # requests that wait for a trial's next epoch
        self._asked: dict[str, AskedStudy] = {}
        self._asked_storage: LeasedStorage | None = None  # where they are
        self._asked_lock = threading.Lock()

    def asked(self, name: str) -> AskedStudy:
        """Return a study that was created to be asked; one object for all requests, since it puts them in order.

        Raises:
            UnknownStudyError: If there is none of this name.
            Conflict: If it was not created to be asked.
        """
        with self._asked_lock:
            storage = self.store.storage()
            if storage is not self._asked_storage:  # the database was removed or replaced
                self._asked_storage = storage
                self._asked.clear()
            known = self._asked.get(name)
            if known is not None:
                try:
                    known.check_still_there()
                except FatalError:  # deleted or renamed
                    del self._asked[name]
                else:
                    return known
            if storage is None:
                raise UnknownStudyError(f"There is no study {name!r}: there are no studies yet.")
            return self._kept(open_asked(storage, name))

    def create_asked(self, name: str, spec: AskedSpec) -> tuple[AskedStudy, bool]:
        """Create a study to be asked, or open the one that was created in the same way; say whether it is new.

        Raises:
            Conflict: If there is another one of this name.
        """
        storage = self.store.storage(create=True)
        assert storage is not None
        made, is_new = create_asked(storage, name, spec)
        return (made, True) if is_new else (self.asked(name), False)

    def _kept(self, study: AskedStudy) -> AskedStudy:
        self._asked[study.name] = study
        if len(self._asked) > _MOST_ASKED:
            del self._asked[next(iter(self._asked))]
        return study

    async def close(self) -> None:
        """End what runs beside the requests."""
        await self.streams.close()
        await self.recent.close()
        self.predictions.close()
        self.reports.close()
        self.store.close()


def makings(request: Request) -> Makings:
    """Return what the answers of a request's app are made of."""
    found = request.app.state.makings
    assert isinstance(found, Makings)
    return found


def check_name(name: str) -> None:
    """Refuse a name that commands would take for a study file's."""
    if name.endswith(".toml"):
        raise Refusal(404, f"There is no study {name!r}.")
