"""What stands between the network and the labelling page: whom it serves, and what browsers may do with it."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterable, Mapping

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["HEADERS", "Guard", "hosts_of", "token_of", "who"]

HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' blob:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
        "trusted-types 'none'"
    ),
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), clipboard-read=()",
}
"""Sent with every answer."""


def hosts_of(host: str, port: int, others: Iterable[str] = ()) -> frozenset[str]:
    """Return the Host headers that a server answers to: its address, the local names, and others by name."""
    names = {"127.0.0.1", "localhost", "[::1]", *others}
    if host not in ("0.0.0.0", "::"):
        names.add(f"[{host}]" if ":" in host else host)
    with_port = {f"{name}:{port}" for name in names}
    return frozenset(name.lower() for name in (names | with_port if port in (80, 443) else with_port))


def token_of(secret: bytes, annotator: str) -> str:
    """Return an annotator's token: the same in every run of a session, and no other session's."""
    mac = hmac.new(secret, annotator.encode("utf-8", "surrogatepass"), hashlib.sha256).digest()
    return base64.urlsafe_b64encode(mac).rstrip(b"=").decode()


def who(authorization: str, tokens: Mapping[str, str]) -> str | None:
    """Return the annotator whose token an Authorization header bears, or None.

    Args:
        authorization: The header, ``Bearer`` and the token.
        tokens: Tokens by annotator; each is compared in constant time.
    """
    scheme, _, token = authorization.partition(" ")
    given = token.strip().encode("utf-8", "surrogatepass")
    matching = [name for name, own in tokens.items() if hmac.compare_digest(own.encode(), given)]
    return matching[0] if matching and scheme.lower() == "bearer" else None


class Guard:
    """An application behind checks of host and origin, whose every answer carries the security headers.

    A request is refused if its Host header is none of the server's names (a name that someone else's DNS turned
    towards this machine), or if it says that another site's page sent it. There are no cookies: what a request may do
    depends on the token in its Authorization header alone, which no other site's page can set.

    Args:
        app: What is guarded.
        hosts: Host headers answered to, in lower case.
    """

    def __init__(self, app: ASGIApp, hosts: frozenset[str]) -> None:
        self._app = app
        self._hosts = hosts
        self._origins = frozenset(f"{scheme}://{host}" for scheme in ("http", "https") for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection; only HTTP is spoken."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        refusal = self._refusal(Headers(scope=scope), scope["method"])
        await (refusal or self._app)(scope, receive, send_guarded)

    def _refusal(self, headers: Headers, method: str) -> JSONResponse | None:
        if {name.lower() for name in headers.getlist("host")} - self._hosts or "host" not in headers:
            return JSONResponse({"error": "this server does not go by that name"}, 421)
        origin, site = headers.get("origin"), headers.get("sec-fetch-site", "none")
        # A link from elsewhere may open the page, which holds nothing until it has a token.
        opens = method == "GET" and headers.get("sec-fetch-mode") == "navigate"
        foreign = site not in ("same-origin", "none") and not opens
        if foreign or (origin is not None and origin.lower() not in self._origins):
            return JSONResponse({"error": "another site's page may not ask this"}, 403)
        return None
