"""Logging in with the token: a form, and the cookie that it sets."""

import html
from typing import Final
from urllib.parse import parse_qs

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from .answers import Refusal
from .security import COOKIE, cookie_header, is_token

router = APIRouter(include_in_schema=False)

_PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>caviar: log in</title><link rel="stylesheet" href="/assets/caviar.css"></head>
<body><main><h1>caviar</h1><form method="post" action="/login">
<p><label for="token">Token (in the file service.token of the home)</label></p>
<p><input id="token" name="token" type="password" autocomplete="current-password" required autofocus></p>
<p role="alert">{said}</p><p><button>Log in</button></p></form></main></body></html>
"""


@router.get("/login")
async def show_form() -> Response:
    """Show the form."""
    return HTMLResponse(_PAGE.format(said=""))


@router.post("/login")
async def log_in(request: Request) -> Response:
    """Set the cookie, if the token is right."""
    token = request.app.state.settings.token
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/x-www-form-urlencoded":
        raise Refusal(415, "Logging in takes a form.")
    try:
        given = parse_qs((await request.body()).decode("ascii"), max_num_fields=5).get("token", [""])[0].strip()
    except ValueError:
        given = ""
    if token is not None and not is_token(given, token):
        failures = request.app.state.login_failures
        if not failures.take(request.client.host if request.client else ""):
            raise Refusal(429, "Too many wrong tokens from this address.", headers={"Retry-After": "60"})
        return HTMLResponse(_PAGE.format(said=html.escape("That is not the token.")), status_code=401)
    answer = RedirectResponse("/", status_code=303)
    if token is not None:
        # The scheme of the page, which a proxy may have served: what reaches the service is HTTP.
        is_secure = request.headers.get("origin", "").startswith("https:")
        answer.headers.append("Set-Cookie", cookie_header(token, secure=is_secure))
    return answer


@router.post("/logout")
async def log_out() -> Response:
    """Forget the cookie."""
    answer = RedirectResponse("/login", status_code=303)
    answer.headers.append("Set-Cookie", f"{COOKIE}=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict")
    return answer
