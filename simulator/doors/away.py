"""Maintenance: everybody who comes to the exchange is turned away with a page, whichever door.

The simulator's own routes stay open, so that maintenance can be ended.
"""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from simulator.faults import Faults

EXCHANGE = ("/api", "/sapi", "/ws", "/stream")  # /ws-api too
PAGE = "<html><head><title>503</title></head><body>Under maintenance.</body></html>"


def turned_away(faults: Faults, wall_ms: Callable[[], int]) -> Middleware:
    """503 with HTML for REST calls and websocket handshakes while *faults* say so."""

    @web.middleware
    async def turn_away(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path.startswith(EXCHANGE) and faults.is_away(wall_ms()):
            return web.Response(status=503, text=PAGE, content_type="text/html")
        return await handler(request)

    return turn_away
