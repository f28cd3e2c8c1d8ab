"""optuna-dashboard's WSGI program as caviar serves it: a study's page is answered from memory while nothing changes."""

import dataclasses
import gzip
import logging
import re
import threading
import warnings
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable
from typing import Any, Final
from wsgiref.util import setup_testing_defaults

from optuna.exceptions import StorageInternalError

from ..storage.database import new_owner, open_storage
from ..storage.places import Place, artifact_store
from .shown_studies import ShownStudies

_logger = logging.getLogger(__name__)

WsgiProgram = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

#: What a study's page asks for to draw; anything else, and every change, is stock optuna-dashboard on the database.
_DRAWN: Final = re.compile(r"/api/studies/(\d{1,9})(?:/param_importances|/plot/\w+)?")
_PAGE: Final = ("/api/studies/{}", "after=0"), ("/api/studies/{}/param_importances", "")
_MOST_KEPT: Final = 32
#: How many studies are made ready when a server starts; the newest are the likeliest to be opened.
_MOST_READY: Final = 5
_LEVEL: Final = 1  # of gzip: a fifth of 17 MB in 0.15 s


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Answer:
    """An answer, its body compressed; ``version`` is the study's, None for one that must not be kept."""

    status: str
    headers: list[tuple[str, str]]
    body: bytes
    version: str | None


def dashboard_program(storage: str, *, artifacts: Place) -> "DashboardProgram":
    """Return optuna-dashboard's program for a database, which is created if it is missing.

    Args:
        storage: The database's address.
        artifacts: The dashboard's directory or store.

    Raises:
        StorageError: If the database cannot be opened.
    """
    shown = ShownStudies(open_storage(storage, owner=new_owner(), create=True))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # optuna's artifacts are experimental
        from optuna_dashboard import wsgi

        whole: WsgiProgram = wsgi(storage, artifact_store=artifact_store(artifacts))
    return DashboardProgram(
        shown, make_drawn=lambda: wsgi(shown, artifact_store=artifact_store(artifacts)), whole=whole
    )


class DashboardProgram:
    """optuna-dashboard, of which a study's page gets studies that were made ready for it.

    Args:
        studies: What the page gets.
        make_drawn: Makes the dashboard on these studies. Each answer gets a new one, which takes milliseconds: it
            remembers a study's trials for ten seconds, and nobody could tell of which moment an answer is.
        whole: The dashboard on the database itself; it writes, and gives out files with all digits.
    """

    def __init__(self, studies: ShownStudies, *, make_drawn: Callable[[], WsgiProgram], whole: WsgiProgram) -> None:
        self._studies, self._make_drawn, self._whole = studies, make_drawn, whole
        self._kept: OrderedDict[tuple[str, str], _Answer] = OrderedDict()
        self._lock = threading.Lock()  # of what is kept
        self._making: defaultdict[int, threading.Lock] = defaultdict(threading.Lock)  # one answer a study at a time

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer one request."""
        found = _DRAWN.fullmatch(environ.get("PATH_INFO", "").rstrip("/"))
        if environ["REQUEST_METHOD"] != "GET" or found is None:
            return self._whole(environ, start_response)
        answer = self._answer(int(found[1]), environ)
        if "gzip" in environ.get("HTTP_ACCEPT_ENCODING", ""):
            body, encoding = answer.body, [("Content-Encoding", "gzip")]
        else:
            body, encoding = gzip.decompress(answer.body), []
        start_response(answer.status, [*answer.headers, *encoding, ("Content-Length", str(len(body)))])
        return [body]

    def make_ready_meanwhile(self) -> None:
        """Do what `make_ready` does in a thread that nobody waits for."""
        threading.Thread(target=self.make_ready, name="studies for optuna-dashboard", daemon=True).start()

    def make_ready(self) -> None:
        """Work out what the pages of the newest studies ask for; what goes wrong is told to whoever opens them."""
        try:
            for study_id in self._studies.newest(_MOST_READY):
                for path, query in _PAGE:
                    environ = {"PATH_INFO": path.format(study_id), "QUERY_STRING": query}
                    setup_testing_defaults(environ)
                    self._answer(study_id, environ)
        except (KeyError, StorageInternalError) as error:
            _logger.debug("not ready: %s", error)

    def _answer(self, study_id: int, environ: dict[str, Any]) -> _Answer:
        with self._lock:
            making = self._making[study_id]
        with making:
            try:
                version = self._studies.version(study_id)
            except (KeyError, StorageInternalError):  # the dashboard has its own words for these
                return _run(self._make_drawn(), environ, version=None)
            key = (environ["PATH_INFO"].rstrip("/"), environ.get("QUERY_STRING", ""))
            with self._lock:
                kept = self._kept.get(key)
            if kept is not None and kept.version == version:
                return kept
            answer = _run(self._make_drawn(), environ, version=version)
            if answer.version is not None:
                with self._lock:
                    self._kept[key] = answer
                    self._kept.move_to_end(key)
                    if len(self._kept) > _MOST_KEPT:
                        self._kept.popitem(last=False)
            return answer


def _run(program: WsgiProgram, environ: dict[str, Any], *, version: str | None) -> _Answer:
    started: list[Any] = []
    parts = program(environ, lambda status, headers, _error=None: started.extend((status, headers)))
    try:
        body = b"".join(parts)
    finally:
        if (close := getattr(parts, "close", None)) is not None:
            close()
    status, headers = started
    headers = [(name, value) for name, value in headers if name.lower() != "content-length"]
    is_kept = version if status.startswith("200") else None
    return _Answer(status=status, headers=headers, body=gzip.compress(body, _LEVEL), version=is_kept)
