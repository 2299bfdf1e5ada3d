"""REST over aiohttp: raw requests in, Binance's JSON, headers and status codes out.

Takes parameters from query and form body whatever the content type, signs over the bytes as sent, and never answers
5xx unless a fault asks for it. What an endpoint does is ``api``'s business, what a fault does ``faults``'.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping

from aiohttp import StreamReader, web

from simulator.api.call import Endpoint
from simulator.api.endpoints import ENDPOINTS
from simulator.core.rules import ApiError, not_valid
from simulator.doors.door import Door
from simulator.doors.params import merged, signed_text
from simulator.faults import Asked, Cut, Faults, HtmlError, perform

MAX_QUERY, MAX_BODY = 1 << 13, 1 << 16  # characters, bytes
BODY_WITHIN_S = 3.0  # for a body that does not come with its head
RETIRED = "/api/v3/userDataStream"
DELISTINGS = "/sapi/v1/spot/delist-schedule"  # none ever; clients ask it before they trade
_BY_CALL: dict[tuple[str, str], Endpoint] = {(endpoint.path, endpoint.method): endpoint for endpoint in ENDPOINTS}
_METHODS: dict[str, list[str]] = {}
for _path, _method in _BY_CALL:
    _METHODS.setdefault(_path, []).append(_method)
_JSON = "application/json;charset=UTF-8"
_encode = json.JSONEncoder(separators=(",", ":")).encode


class Rest:
    """The handler for everything under ``/api`` and ``/sapi``."""

    def __init__(self, door: Door, faults: Faults) -> None:
        self._door = door
        self._faults = faults

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request, or break as a fault demands."""
        try:
            query, body = await _sent(request)
            if not self._faults.calls and not self._faults.banned:
                return await self._answer(request, query, body)
            return await perform(
                self._faults,
                _asked(request, query, body),
                lambda: self._answer(request, query, body),
                self._door.venue.wall(),
            )
        except HtmlError as error:
            return _page(error.status, error.page)
        except ApiError as error:
            return self._refusal(request, error)
        except Cut:
            if request.transport is not None:
                request.transport.abort()
            return web.Response()  # to nobody

    async def _answer(self, request: web.Request, query: str, body: str) -> web.Response:
        path, method = request.path, request.method
        endpoint = _BY_CALL.get((path, method))
        if endpoint is None:
            return _elsewhere(request)
        venue, limits, address = self._door.venue, self._door.limits, request.remote or ""
        headers = request.headers
        try:
            if headers.get("X-MBX-TIME-UNIT", "MILLISECOND").upper() != "MILLISECOND":
                raise not_valid("X-MBX-TIME-UNIT")
            key = headers.get("X-MBX-APIKEY")
            answer = await self._door.call(endpoint, merged(query, body), address, key, signed_text(query, body))
        except ApiError as error:
            return self._refusal(request, error)
        now = venue.wall()
        told = _weight(limits.weight_used(address, now))
        if method == "POST" and key:
            ten, day = limits.orders_used(key, now)
            told |= {"X-MBX-ORDER-COUNT-10S": str(ten), "X-MBX-ORDER-COUNT-1D": str(day)}
        return _json(200, answer, told)

    def _refusal(self, request: web.Request, error: ApiError) -> web.Response:
        used = self._door.limits.weight_used(request.remote or "", self._door.venue.wall())
        return _json(error.status, error.body(), _weight(used) | error.headers)


async def _sent(request: web.Request) -> tuple[str, str]:
    """Query and body, raw. A GET has no body, whatever was sent."""
    query = request.raw_path.partition("?")[2]
    if len(query) > MAX_QUERY:
        raise _too_much(414)
    if request.method == "GET" or not request.body_exists:
        return query, ""
    if (request.content_length or 0) > MAX_BODY:
        raise _too_much(413)
    return query, (await _body(request.content)).decode("utf-8", "surrogateescape")


async def _body(content: StreamReader) -> bytes:
    """The whole body; one that is whole already, as most are, costs no wait."""
    try:
        if content.is_eof():
            body = content.read_nowait()
        else:
            body = b""
            async with asyncio.timeout(BODY_WITHIN_S):
                async for chunk in content.iter_any():
                    body += chunk
                    if len(body) > MAX_BODY:
                        break
    except web.RequestPayloadError:  # broken chunks
        raise ApiError(-1100, "Illegal characters found in a parameter.") from None
    except TimeoutError:
        raise ApiError(-1100, "Illegal characters found in a parameter.", 408) from None
    except ConnectionError:
        raise Cut from None
    if len(body) > MAX_BODY:
        raise _too_much(413)
    return body


def _too_much(status: int) -> ApiError:
    return ApiError(-1101, "Too many parameters sent for this endpoint.", status)


def _asked(request: web.Request, query: str, body: str) -> Asked:
    endpoint = _BY_CALL.get((request.path, request.method))
    try:
        symbol = merged(query, body).get("symbol", "")
    except ApiError:
        symbol = ""
    return Asked(
        door="rest", path=request.path, method=request.method, ws_method=endpoint.ws_method if endpoint else "",
        address=request.remote or "", api_key=request.headers.get("X-MBX-APIKEY", ""), symbol=symbol,
    )  # fmt: skip


def _elsewhere(request: web.Request) -> web.Response:
    """The answer where there is no endpoint."""
    if request.path == RETIRED:
        return _page(410, "<html><body>410 Gone</body></html>")
    if request.path == DELISTINGS and request.method == "GET":
        return _json(200, [])
    allowed = _METHODS.get(request.path)
    if allowed is not None:
        refusal = {"code": -1020, "msg": "This operation is not supported."}
        return _json(405, refusal, {"Allow": ", ".join(allowed)})
    wants_html = "text/html" in request.headers.get("Accept", "")
    return _page(404, "<html><body>404 Not Found</body></html>" if wants_html else "")


def _weight(used: int) -> dict[str, str]:
    return {"X-MBX-USED-WEIGHT": str(used), "X-MBX-USED-WEIGHT-1M": str(used)}


def _json(status: int, body: object, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(status=status, body=_encode(body).encode(), headers={"Content-Type": _JSON, **(headers or {})})


def _page(status: int, html: str) -> web.Response:
    return web.Response(status=status, text=html, content_type="text/html")
