"""The page at ``/`` and what its forms send: looks through ``view``, writes through ``page.html``.

One self-contained document under a policy that allows nothing but its own style and script, complete without
JavaScript. Whoever asks without ``text/html`` in Accept gets the JSON of ``GET /sim``. A form that another site's page
sent is refused: the exchange usually listens where only this machine's browsers reach it.
"""

from __future__ import annotations

import ipaddress
from base64 import b64encode
from collections.abc import Callable, Mapping
from hashlib import sha256
from importlib.resources import files
from urllib.parse import parse_qsl, urlsplit

from aiohttp import web
from jinja2 import Environment, StrictUndefined

from simulator.control import Control
from simulator.faults import KINDS, BadFault, Faults
from simulator.page import desk
from simulator.page.recent import Recent
from simulator.page.sparkline import HEIGHT, WIDTH
from simulator.page.view import View, view, words
from simulator.venue import Venue

ASK, CLEAR = "/sim/page/faults", "/sim/page/faults/clear"
FORM_TYPE = "application/x-www-form-urlencoded"
MAX_FIELDS = 1000
GROUPS = {"requests": "Requests", "streams": "Streams and user events", "exchange": "The exchange"}


class Page:
    """Handlers of the page. *about* says which market this is, *connected* counts clients by what they use."""

    def __init__(
        self,
        venue: Venue,
        faults: Faults,
        recent: Recent,
        control: Control,
        about: str,
        connected: Mapping[str, Callable[[], int]],
    ) -> None:
        self._venue = venue
        self._faults = faults
        self._recent = recent
        self._control = control
        self._about = about
        self._connected = connected

    def routes(self) -> list[web.RouteDef]:
        """All routes."""
        return [
            web.get("/", self.show),
            web.post(ASK, self.set_fault),
            web.post(CLEAR, self.clear_fault),
        ]

    async def show(self, request: web.Request) -> web.Response:
        """The page, or its JSON for who does not read HTML."""
        if "text/html" not in request.headers.get("Accept", ""):
            return await self._control.index(request)
        done = request.query.get("done", "")
        return self._page(request, done=done if done in KINDS else "", hold="hold" in request.query)

    async def set_fault(self, request: web.Request) -> web.Response:
        """Switch on what the form describes: 303 back to the page, or 422 with the form as it was sent."""
        refusal = refused_post(request)
        if refusal is not None:
            return refusal
        form = await read_form(request)
        if form is None:
            return web.Response(status=400, text="This is no form.\n")
        try:
            body = desk.asked(form)
            if "api_key" in body:
                body["api_key"] = self._whole_key(str(body["api_key"]))
            self._faults.add(body, self._venue.wall())
        except BadFault as error:
            return self._page(request, status=422, form=form, error=str(error))
        raise web.HTTPSeeOther(f"/?done={body['kind']}#faults")

    async def clear_fault(self, request: web.Request) -> web.Response:
        """Switch off the fault with the form's id, or all without one."""
        refusal = refused_post(request)
        if refusal is not None:
            return refusal
        number = (await read_form(request) or {}).get("id", "")
        if not number:
            self._faults.clear()
        elif number.isascii() and number.isdecimal() and len(number) < 19:
            self._faults.remove(int(number))
        raise web.HTTPSeeOther("/#faults")

    def _whole_key(self, typed: str) -> str:
        """The one API key that ends like *typed*, which may be all of it; else *typed* itself."""
        keys = [key for key in self._venue.exchange.accounts if key.endswith(typed)]
        return keys[0] if len(keys) == 1 else typed

    def _page(
        self,
        request: web.Request,
        *,
        status: int = 200,
        form: Mapping[str, str] | None = None,
        error: str = "",
        done: str = "",
        hold: bool = False,
    ) -> web.Response:
        seen = view(self._venue, self._faults, self._recent, self._about, self._connected)
        text = written(seen, request.host, form=form, error=error, done=done, hold=hold)
        return web.Response(status=status, text=text, content_type="text/html", headers=HEADERS)


def written(
    seen: View,
    host: str,
    *,
    form: Mapping[str, str] | None = None,
    error: str = "",
    done: str = "",
    hold: bool = False,
) -> str:
    """The page as HTML. *host* is where its reader found it, *form* what was sent with an *error*; *done* names a fault
    that was just set, *hold* keeps a browser without JavaScript from fetching the page again."""
    return _TEMPLATE.render(
        seen=seen, host=host, form=form or {}, error=error, done=done, hold=hold, kinds=desk.forms(), ask=ASK,
        clear=CLEAR,
    )  # fmt: skip


def refused_post(request: web.Request) -> web.Response | None:
    """403 for a form that does not come from this page, under a name that only this exchange has."""
    origin, site = request.headers.get("Origin"), request.headers.get("Sec-Fetch-Site", "same-origin")
    own = _is_own_name(request.host) and site in ("same-origin", "none")
    if own and (origin is None or urlsplit(origin).netloc == request.host):
        return None
    return web.Response(status=403, text="This form was not sent by the simulator's own page: open it and try again.\n")


async def read_form(request: web.Request) -> dict[str, str] | None:
    """The fields of a submitted form, ``None`` when it is none."""
    if request.content_type != FORM_TYPE:
        return None
    try:
        text = (await request.read()).decode()
        return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_FIELDS))
    except (ValueError, web.RequestPayloadError):
        return None


def _is_own_name(host: str) -> bool:
    """An address or localhost: a name of the outside may be made to point here by whoever owns it."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or bool(ipaddress.ip_address(name))
    except ValueError:
        return False


def _file(name: str) -> str:
    return files("simulator.page").joinpath(name).read_text("utf-8")


def _policy(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


def _only_chosen() -> str:
    """Shows, of all kinds in the form, the fields of the one that is selected."""
    return "".join(
        f'.set:has(option[value="{name}"]:checked) [data-kind="{name}"]{{display:grid}}' for name in KINDS
    )


STYLE = _file("page.css") + _only_chosen()
SCRIPT = _file("page.js")
ICON = _file("icon.svg")
HEADERS = {
    "Content-Security-Policy": (
        f"default-src 'none'; style-src {_policy(STYLE)}; script-src {_policy(SCRIPT)}; img-src data:; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Vary": "Accept",
}
_ENVIRONMENT = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
_ENVIRONMENT.globals |= {
    "style": STYLE,
    "script": SCRIPT,
    "icon": "data:image/svg+xml;base64," + b64encode(ICON.encode()).decode(),
    "logo": ICON,
    "groups": GROUPS,
    "spark_size": (WIDTH, HEIGHT),
    "words": words,
}
_TEMPLATE = _ENVIRONMENT.from_string(_file("page.html"))
