"""REST over aiohttp: raw requests in, Binance's JSON, headers and status codes out.

Takes parameters from query and form body whatever the content type, signs over the bytes as sent, and never answers
5xx to bad input. What an endpoint does is ``api.py``'s business.
"""

from __future__ import annotations

import json

from aiohttp import web

from simulator.api.endpoints import ENDPOINTS, Endpoint
from simulator.core.rules import ApiError
from simulator.doors.door import Door
from simulator.doors.params import merged, signed_text
from simulator.faults import Faults

RETIRED = "/api/v3/userDataStream"
_BY_PATH: dict[str, dict[str, Endpoint]] = {}
for _endpoint in ENDPOINTS:
    _BY_PATH.setdefault(_endpoint.path, {})[_endpoint.method] = _endpoint


class Rest:
    """The handler for everything under ``/api``."""

    def __init__(self, door: Door, faults: Faults) -> None:
        self._door = door
        self._faults = faults

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request, or break as a fault demands."""
        method, path = request.method, request.path
        refusal = self._faults.take("refuse", method, path)
        if refusal is not None:
            html = f"<html><head><title>{refusal.status}</title></head><body>Service refused.</body></html>"
            return web.Response(status=refusal.status, text=html, content_type="text/html")
        lost = self._faults.take("lose_ack", method, path)
        response = await self._answer(request)
        if lost is not None and request.transport is not None:
            request.transport.abort()
        return response

    async def _answer(self, request: web.Request) -> web.Response:
        if request.path == RETIRED:
            return web.Response(status=410, text="<html><body>410 Gone</body></html>", content_type="text/html")
        methods = _BY_PATH.get(request.path)
        if methods is None:
            return _not_found(request)
        endpoint = methods.get(request.method)
        if endpoint is None:
            return _json(405, {"code": -1020, "msg": "This operation is not supported."})
        address, now = request.remote or "", self._door.venue.wall()
        headers: dict[str, str] = {}
        try:
            if request.headers.get("X-MBX-TIME-UNIT", "MILLISECOND").upper() != "MILLISECOND":
                raise ApiError(-1130, "Data sent for parameter 'X-MBX-TIME-UNIT' is not valid.")
            query = request.raw_path.partition("?")[2]
            body = "" if request.method == "GET" else (await request.read()).decode("utf-8", "surrogateescape")
            key = request.headers.get("X-MBX-APIKEY")
            values = merged(query, body)
            answer = await self._door.call(endpoint, values, address, key, signed_text(query, body))
            status = 200
            if endpoint.method == "POST" and key:
                ten, day = self._door.limits.orders_used(key, now)
                headers = {"X-MBX-ORDER-COUNT-10S": str(ten), "X-MBX-ORDER-COUNT-1D": str(day)}
        except ApiError as error:
            answer, status, headers = {"code": error.code, "msg": error.msg}, error.status, dict(error.headers)
        used = str(self._door.limits.weight_used(address, now))
        headers |= {"X-MBX-USED-WEIGHT": used, "X-MBX-USED-WEIGHT-1M": used}
        return _json(status, answer, headers)


def _json(status: int, body: object, headers: dict[str, str] | None = None) -> web.Response:
    text = json.dumps(body, separators=(",", ":"))
    return web.Response(status=status, text=text, content_type="application/json", headers=headers)


def _not_found(request: web.Request) -> web.Response:
    html = "<html><body>404 Not Found</body></html>" if "text/html" in request.headers.get("Accept", "") else ""
    return web.Response(status=404, text=html, content_type="text/html")
