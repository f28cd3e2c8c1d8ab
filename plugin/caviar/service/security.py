"""Who may ask for what: the guard in front of everything that the service answers, the dashboards included."""

import asyncio
import hashlib
import hmac
import logging
import secrets
from collections.abc import Iterable
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import cookie_parser
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .answers import Refusal, error_answer, shown_message
from .limits import Buckets
from .settings import ServiceSettings, is_loopback

_logger = logging.getLogger(__name__)

COOKIE: Final = "caviar"
WRITE_HEADER: Final = "x-caviar"
#: What belongs to optuna-dashboard and MLflow: their pages have inline scripts, and know no header of ours.
DASHBOARDS: Final = ("/dashboard", "/api", "/static", "/artifacts", "/csv", "/mlflow")
#: What is answered without a token: the way to show one, and what that page looks like.
_OPEN: Final = ("/login", "/assets")
#: What a plain form sends, which has no header of ours; Origin and Sec-Fetch-Site are checked all the same.
_FORMS: Final = ("/login", "/logout")
#: The uploads: a path here may have a body as large as an upload.
UPLOADS: Final = "/v1/uploads"

_READING: Final = ("GET", "HEAD")
_METHODS: Final = (*_READING, "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_FAILURES_PER_MINUTE: Final = 10
_MOST_FORM_BYTES: Final = 4096

#: No inline script and no inline style, nothing from elsewhere, and no frame of ours in a foreign page.
PAGE_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; font-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


def is_below(path: str, prefixes: Iterable[str]) -> bool:
    """Tell whether a path is one of these or lies below one."""
    return any(path == prefix or path.startswith(f"{prefix}/") for prefix in prefixes)


def session_of(token: str) -> str:
    """Return what the cookie holds: it follows from the token, and the token does not follow from it."""
    return hmac.new(token.encode(), b"caviar session", hashlib.sha256).hexdigest()


def is_token(given: str, token: str) -> bool:
    """Compare what a client shows with the token, in a time that does not tell how much of it is right."""
    return hmac.compare_digest(given.encode(errors="replace"), token.encode())


class Guard:
    """ASGI middleware that lets a request through or refuses it, and puts headers on every answer.

    Args:
        app: What answers the requests that pass.
        settings: Whom and what to let through.
    """

    def __init__(self, app: ASGIApp, *, settings: ServiceSettings) -> None:
        self._app, self._settings = app, settings
        self._hosts = {"localhost", *(name.lower() for name in settings.hosts)}
        self._session = None if settings.token is None else session_of(settings.token)
        self.requests = Buckets(per_s=settings.requests_per_s, burst=2 * settings.requests_per_s)
        self.failures = Buckets(per_s=_FAILURES_PER_MINUTE / 60, burst=_FAILURES_PER_MINUTE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008, "reason": "There are no websockets here."})
            return
        started = False
        path = scope["path"]
        policy = None if is_below(path, DASHBOARDS) else PAGE_POLICY

        async def send_safely(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                _add_headers(MutableHeaders(scope=message), path=path, policy=policy)
            await send(message)

        try:
            refusal = self._refusal(scope)
            if refusal is not None:
                await refusal(scope, receive, send_safely)
                return
            await self._app(scope, self._bounded(scope, receive), send_safely)
        except Exception as error:
            if started:
                raise
            await _answer_to(error, path)(scope, receive, send_safely)

    def _refusal(self, scope: Scope) -> Response | None:
        """Return the answer that refuses a request, or None to let it through."""
        try:
            headers, method, path = Headers(scope=scope), scope["method"], scope["path"]
            address = scope["client"][0] if scope.get("client") else ""
            if not self.requests.take(address):
                raise Refusal(429, "Too many requests from this address.", headers={"Retry-After": "1"})
            if self._settings.token is None and not is_loopback(address):
                raise Refusal(403, "This service answers only its own machine.")
            self._check_host(headers)
            if method not in _METHODS:
                raise Refusal(405, f"The method {method[:20]!r} is not possible here.")
            if ".." in path.split("/") or not path.isprintable() or "\\" in path:
                raise Refusal(400, "The path has parts that no address here has.")
            if method not in _READING:
                _check_origin(headers, scheme=scope["scheme"])
            if not is_below(path, _OPEN) and not self._is_known(headers, address):
                if method in _READING and "text/html" in headers.get("accept", ""):
                    return RedirectResponse("/login", status_code=303)
                raise Refusal(
                    *(401, "This service needs its token."),
                    way_out="Send it as `Authorization: Bearer TOKEN`, or log in at /login.",
                    headers={"WWW-Authenticate": "Bearer"},
                )
            is_ours = not is_below(path, DASHBOARDS)
            if method not in _READING and is_ours and path not in _FORMS and headers.get(WRITE_HEADER) != "1":
                raise Refusal(403, "A request that changes something needs the header `X-Caviar: 1`.")
            _check_length(headers, self._most_bytes(path))
        except Refusal as refusal:
            return error_answer(refusal.status_code, refusal.detail, way_out=refusal.way_out, headers=refusal.headers)
        return None

    def _check_host(self, headers: Headers) -> None:
        """Refuse a name that is not ours: a foreign page may have it lead here (DNS rebinding)."""
        given = headers.getlist("host")
        name = _host_name(given[0]) if len(given) == 1 else None
        if name is None or not (name in self._hosts or is_loopback(name)):
            raise Refusal(
                *(403, f"This service is not called {given[0][:100]!r}." if given else "The Host header is missing."),
                way_out="Use localhost, or start the service with the names that it may be called by.",
            )

    def _is_known(self, headers: Headers, address: str) -> bool:
        """Tell whether a request shows the token, or a cookie that follows from it."""
        token = self._settings.token
        if token is None or self._session is None:
            return True
        kind, _, given = headers.get("authorization", "").partition(" ")
        shown = given.strip() if kind.lower() == "bearer" else ""
        cookie = _cookie(headers)
        if not shown and not cookie:
            return False
        if (shown and is_token(shown, token)) or (cookie and is_token(cookie, self._session)):
            return True
        if not self.failures.take(address):  # the right token passes at any time, so that nobody can lock its owner out
            raise Refusal(429, "Too many wrong tokens from this address.", headers={"Retry-After": "60"})
        return False

    def _most_bytes(self, path: str) -> int:
        settings = self._settings
        if path in _FORMS:
            return _MOST_FORM_BYTES
        is_upload = is_below(path, (UPLOADS, *DASHBOARDS)) or path.endswith("/predict-file")
        return settings.max_upload_bytes if is_upload else settings.max_body_bytes

    def _bounded(self, scope: Scope, receive: Receive) -> Receive:
        """Return a way to read a body that ends where it grows too large or stands still."""
        left, is_whole = self._most_bytes(scope["path"]), False

        async def receive_bounded() -> Message:
            nonlocal left, is_whole
            if is_whole:
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), self._settings.body_timeout_s)
            except TimeoutError:
                raise HTTPException(408, "The rest of the request did not come.") from None
            if message["type"] == "http.request":
                left -= len(message.get("body", b""))
                is_whole = not message.get("more_body", False)
                if left < 0:
                    raise HTTPException(413, "The request is too large.")
            return message

        return receive_bounded


def cookie_header(token: str, *, secure: bool) -> str:
    """Return the ``Set-Cookie`` header that logs in with a token."""
    return f"{COOKIE}={session_of(token)}; Path=/; Max-Age=2592000; HttpOnly; SameSite=Strict{'; Secure' * secure}"


def _answer_to(error: Exception, path: str) -> Response:
    """Return the answer to an error that nothing below has answered; what nobody expected gets a number."""
    if isinstance(error, HTTPException):
        return error_answer(error.status_code, error.detail)
    number = secrets.token_hex(4)
    _logger.error("Request %s, error %s", shown_message(path), number, exc_info=error)
    return error_answer(500, f"Something went wrong here. The service's log tells more of error {number}.")


def _add_headers(headers: MutableHeaders, *, path: str, policy: str | None) -> None:
    """Put on an answer what browsers need to know; an answer that has its own policy keeps it.

    Both dashboards let foreign pages read some of what they answer: artifacts, and all that MLflow tells.
    """
    for name in [name for name in headers if name.startswith("access-control-")]:
        del headers[name]
    headers.setdefault("X-Content-Type-Options", "nosniff")
    headers.setdefault("Referrer-Policy", "same-origin")
    headers.setdefault("X-Frame-Options", "SAMEORIGIN")
    headers.setdefault("Cross-Origin-Resource-Policy", "same-origin")
    headers.setdefault("Cross-Origin-Opener-Policy", "same-origin")
    if policy is not None:
        headers.setdefault("Content-Security-Policy", policy)
    if not is_below(path, ("/assets", *DASHBOARDS)):
        headers.setdefault("Cache-Control", "no-store")


def _host_name(header: str) -> str | None:
    """Return the name in a Host header, in lower case, without port and brackets; None if it is none."""
    name, port = header.lower(), ""
    if name.startswith("["):
        name, bracket, port = name[1:].partition("]")
        if not bracket or (port and not port.startswith(":")):
            return None
        port = port.removeprefix(":")
    elif ":" in name:
        name, _, port = name.partition(":")
    return name if name and (not port or (port.isascii() and port.isdigit())) else None


def _check_origin(headers: Headers, *, scheme: str) -> None:
    """Refuse what a foreign page sends. A client that is no browser sends neither header."""
    site, origins = headers.get("sec-fetch-site"), headers.getlist("origin")
    own = {f"{kind}://{headers['host'].lower()}" for kind in {scheme, "https"}}  # a proxy may speak https for us
    if site not in (None, "same-origin", "none") or any(origin.lower() not in own for origin in origins):
        raise Refusal(403, "A page from elsewhere may not change anything here.")


def _check_length(headers: Headers, most: int) -> None:
    length = headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit() and len(length) < 20):
        raise Refusal(400, "The header Content-Length must be a number.")
    if int(length) > most:
        raise Refusal(413, f"The request has {length} bytes, and at most {most} are allowed.")


def _cookie(headers: Headers) -> str:
    """Return our cookie. Others of this host, which a browser sends for every port, may be of any form."""
    return cookie_parser(headers.get("cookie", "")).get(COOKIE, "")
