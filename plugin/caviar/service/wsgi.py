"""A WSGI program, as optuna-dashboard and MLflow are, in an ASGI server: bodies and answers are streamed.

Starlette's own bridge is deprecated, and copies a growing body with every part that comes.
"""

import sys
import tempfile
from collections.abc import Callable, Iterable
from typing import Any, Final

import anyio
import anyio.from_thread
import anyio.to_thread
from starlette.types import Message, Receive, Scope, Send

from ..insight.dashboard_program import WsgiProgram
from .answers import Refusal

_IN_MEMORY_BYTES: Final = 2**20
#: Answers at a time: whoever reads one slowly keeps its thread, and all others of the service must go on.
_THREADS: Final = 16


class WsgiApp:
    """A WSGI program as an ASGI app; it is made when it is first asked for, in a thread.

    Args:
        make: Makes the program.
        allowed: Tells whether it may be asked, by method and path.
        headers: By path, what is added to an answer; the program's own headers of these names are left out.
        script: Address of a script that is added to its pages.
        pages: Tells by the path whether an answer is one of its pages, and not a file that somebody stored.
    """

    def __init__(
        self,
        make: Callable[[], WsgiProgram],
        *,
        allowed: Callable[[str, str], bool],
        headers: Callable[[str], dict[str, str]] = lambda _path: {},
        script: str = "",
        pages: Callable[[str], bool] = lambda _path: False,
    ) -> None:
        self._make, self._allowed, self._headers = make, allowed, headers
        self._script, self._pages = script, pages
        self._program: WsgiProgram | None = None
        self._making = anyio.Lock()
        self._threads = anyio.CapacityLimiter(_THREADS)

    async def prepare(self) -> WsgiProgram:
        """Make the program, unless it is there."""
        async with self._making:
            if self._program is None:
                self._program = await anyio.to_thread.run_sync(self._make)
            return self._program

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        assert scope["type"] == "http", "the guard lets nothing else through"
        if not self._allowed(scope["method"], scope["path"]):
            raise Refusal(403, "The dashboards here are for looking; this request would change something.")
        program = await self.prepare()
        with tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES) as body:
            more = True
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return
                body.write(message.get("body", b""))
                more = message.get("more_body", False)
            body.seek(0)
            environ = _environ(scope, body)
            await anyio.to_thread.run_sync(
                lambda: self._answer(program, environ, scope["path"], send), limiter=self._threads
            )

    def _answer(self, program: WsgiProgram, environ: dict[str, Any], path: str, send: Send) -> None:
        """Run the program in this thread, and send what it answers by the server's loop."""
        begun, is_page = False, self._pages(path)
        if is_page:
            environ["HTTP_ACCEPT_ENCODING"] = "identity"
        start: dict[str, Any] = {}
        added = self._headers(path)
        hidden = {name.lower() for name in added}

        def start_response(status: str, headers: list[tuple[str, str]], _error: Any = None) -> None:
            kept = [(name, value) for name, value in headers if name.lower() not in hidden]
            start.update(
                type="http.response.start",
                status=int(status.split(" ")[0]),
                headers=[(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in kept]
                + [(name.lower().encode(), value.encode()) for name, value in added.items()],
            )

        async def pass_on(message: Message) -> None:
            await send(message)

        def send_part(part: bytes, *, more: bool) -> None:
            nonlocal begun
            if not begun:
                begun = True
                anyio.from_thread.run(pass_on, start)
            anyio.from_thread.run(pass_on, {"type": "http.response.body", "body": part, "more_body": more})

        parts = program(environ, start_response)
        try:
            for part in self._with_script(parts, start) if is_page else parts:
                if part:
                    send_part(part, more=True)
            send_part(b"", more=False)
        finally:
            if (close := getattr(parts, "close", None)) is not None:
                close()

    def _with_script(self, parts: Iterable[bytes], start: dict[str, Any]) -> Iterable[bytes]:
        """Return the parts of an answer, with the script if it is a page of HTML."""
        whole = b"".join(parts)
        if any(name == b"content-type" and value.startswith(b"text/html") for name, value in start["headers"]):
            whole = whole.replace(b"</body>", f'<script src="{self._script}"></script></body>'.encode(), 1)
            kept = [(name, value) for name, value in start["headers"] if name != b"content-length"]
            start["headers"] = [*kept, (b"content-length", str(len(whole)).encode())]
        return [whole]


def _environ(scope: Scope, body: Any) -> dict[str, Any]:
    """Return a request as WSGI describes it (PEP 3333): texts hold bytes, as Latin-1."""
    host, port = scope.get("server") or ("localhost", 80)
    environ: dict[str, Any] = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": "",
        "PATH_INFO": scope["path"].encode().decode("latin-1"),
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "SERVER_NAME": host,
        "SERVER_PORT": str(port),
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "REMOTE_ADDR": (scope.get("client") or ("",))[0],
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope.get("scheme", "http"),
        "wsgi.input": body,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        "wsgi.input_terminated": True,
    }
    for name_bytes, value_bytes in scope["headers"]:
        name, value = name_bytes.decode("latin-1").upper().replace("-", "_"), value_bytes.decode("latin-1")
        key = name if name in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{name}"
        environ[key] = f"{environ[key]},{value}" if key in environ else value
    environ.setdefault("HTTP_ACCEPT_ENCODING", "identity")  # optuna-dashboard fails without
    return environ
