"""The web server: puts settings, database, security, API and pages together, and serves them.

Wiring and nothing else. Every request passes `_guard`, which finds out who is calling and whether that role is enough.
"""

from __future__ import annotations

import ctypes
import errno
import gc
import logging
import os
import signal
import sys
import threading
from dataclasses import dataclass
from datetime import timedelta
from types import FrameType

import structlog
from flask import Response, g, redirect, request
from flask.typing import ResponseReturnValue
from flask_login import LoginManager
from flask_migrate import Migrate
from flask_openapi3 import Info, OpenAPI
from flask_wtf import CSRFProtect
from sqlalchemy import Engine
from waitress.server import create_server
from werkzeug.exceptions import RequestEntityTooLarge

from server import bodies
from server.api import (
    audit,
    auth,
    bots,
    copies,
    credentials,
    health,
    installation,
    market,
    models,
    notifications,
    runs,
    strategies,
    stream,
    system,
    trading,
    users,
    verbs,
    wire,
)
from server.logs import log_to
from server.market import Market
from server.security.auth import identify
from server.security.roles import allow, need_of, public
from server.security.secrets import Vault, load_vault
from server.security.sessions import load_page_user
from server.security.users import FIRST_ADMIN, first_start
from server.settings import Settings, load_settings
from server.storage.engine import MIGRATIONS, engine_options, tune
from server.storage.models import db
from server.supervisor.run_tickets import endpoints
from server.web.assets import compress
from server.web.errors import shown
from server.web.hub import Hub
from server.web.live import IsLive
from server.web.pages import web
from server.web.sign_in import to_login
from server.web.stream import make_hub
from shared.errors import FlotillaError

THREADS = 64
ENDS_WITHIN_S = 1.5
OUT_BUFFER_BYTES = 1_000_000
_M_ARENA_MAX = -8
_CHANGING = {"POST", "PUT", "PATCH", "DELETE"}
_CSP = (
    "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data:; object-src 'none'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
# Swagger UI starts itself with an inline script and styles its parts inline.
_DOCS_CSP = _CSP.replace("script-src 'self'", "script-src 'self' 'unsafe-inline'").replace(
    "style-src 'self'", "style-src 'self' 'unsafe-inline'"
)
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
_SECURITY_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "session": {"type": "apiKey", "in": "cookie", "name": "flotilla_session"},
}


@dataclass(frozen=True, slots=True)
class Flotilla:
    """What views reach through ``current_app.extensions["flotilla"]``."""

    settings: Settings
    engine: Engine
    vault: Vault
    market: Market


class App(OpenAPI):
    """Flask with our request class."""

    request_class = wire.StrictRequest


def create_app(settings: Settings | None = None) -> App:
    """The app, on a database that `first_start` has prepared."""
    settings = settings or load_settings()
    vault = load_vault(settings)
    if not structlog.is_configured():
        log_to()
    app = App(
        "server",
        static_folder=None,  # the pages' files have addresses of their own: server.web.assets
        template_folder="web/templates",
        info=Info(title="Flotilla", version="1", description="A fleet of trading bots."),
        security_schemes=_SECURITY_SCHEMES,  # type: ignore[arg-type]
        doc_prefix="/api",
        doc_url="/openapi.json",
        validation_error_model=wire.ErrorBody,
        validation_error_callback=wire.refuse_invalid,
    )
    _configure(app, settings, vault, unguarded=frozenset(app.view_functions))  # the API's description
    for api in (
        health.api,
        auth.login_api,
        auth.api,
        strategies.api,
        bots.api,
        verbs.api,
        copies.api,
        system.api,
        trading.api,
        runs.api,
        models.api,
        market.api,
        credentials.api,
        users.api,
        installation.api,
        audit.api,
        notifications.api,
        stream.api,
    ):
        app.register_api(api)
    app.register_blueprint(web)
    app.jinja_env.globals["is_live"] = IsLive()
    app.extensions["flotilla.hub"] = make_hub(app, app.extensions["flotilla"].engine)
    app.add_url_rule("/api/docs", "docs", public(lambda: redirect("/api/swagger")))
    wire.register_errors(app, shown)
    return app


def serve(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT; the exit code. Prepares the database if nobody has."""
    try:
        password = first_start(settings)
        app = create_app(settings)
    except FlotillaError as error:
        print(error.message, file=sys.stderr)
        return 1
    if password is not None:
        print(f"First start: log in as {FIRST_ADMIN} with the password {password} (shown this once).", flush=True)
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    _keep_memory_small()
    listeners: dict[int, object] = {}
    try:
        server = create_server(
            app,
            map=listeners,
            host=settings.host,
            port=settings.port,
            threads=THREADS,
            ident=None,
            max_request_body_size=bodies.READ_AWAY_BYTES,
            clear_untrusted_proxy_headers=True,
            channel_request_lookahead=1,  # a client that goes away is noticed while its stream waits
            outbuf_high_watermark=OUT_BUFFER_BYTES,  # what was sent is given back each time so much has passed
        )
    except OSError as error:
        print(_cannot_listen(settings, error), file=sys.stderr)
        return 1
    bodies.bound(listeners.values())
    hub: Hub = app.extensions["flotilla.hub"]

    def end(_number: int, _frame: FrameType | None) -> None:
        # Requests under way may finish, streams are ended; what hangs does not hold up the end.
        timer = threading.Timer(ENDS_WITHIN_S, os._exit, [0])
        timer.daemon = True
        timer.start()
        hub.close()
        raise SystemExit(0)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    server.run()
    return 0


def _keep_memory_small() -> None:
    """Let glibc share two heaps among all threads: with one for each, what streams gave back is never used again."""
    try:
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 2)
    except (OSError, AttributeError):
        pass  # another C library, which has no such habit
    gc.collect()
    gc.freeze()  # what is there by now stays: looking through it again and again would make requests wait


def _cannot_listen(settings: Settings, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"FLOTILLA_PORT {settings.port} is taken on {settings.host}. Stop what listens there, or set another port."
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"FLOTILLA_PORT {settings.port} needs more rights than this user has. Set a port above 1023."
    return f"FLOTILLA_HOST {settings.host} cannot be listened on ({error.strerror}). Set an address of this machine."


def _configure(app: App, settings: Settings, vault: Vault, *, unguarded: frozenset[str]) -> None:
    keys = vault.derived("page sessions")
    app.config.update(
        SECRET_KEY=keys[0],
        SECRET_KEY_FALLBACKS=keys[1:],
        # Browsers send a host's cookies to all of its ports; the name keeps two instances apart.
        SESSION_COOKIE_NAME=f"flotilla_session_{settings.port}",
        SESSION_COOKIE_SAMESITE="Lax",
        PERMANENT_SESSION_LIFETIME=timedelta(days=31),  # when the session ends its row says, on the server
        WTF_CSRF_CHECK_DEFAULT=False,
        WTF_CSRF_TIME_LIMIT=None,
        SQLALCHEMY_DATABASE_URI=settings.database_url,
        SQLALCHEMY_ENGINE_OPTIONS=engine_options(settings.database_url),
    )
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.json.ensure_ascii = False  # type: ignore[attr-defined]
    db.init_app(app)
    Migrate(app, db, directory=str(MIGRATIONS), render_as_batch=True)
    with app.app_context():
        engine = db.engine
    tune(engine)
    market_reads = Market(lambda exchange: endpoints(settings, exchange).rest)
    app.extensions["flotilla"] = Flotilla(settings, engine, vault, market_reads)
    csrf = CSRFProtect(app)
    wire.limiter.init_app(app)
    manager = LoginManager(app)
    manager.user_loader(lambda page_id: load_page_user(engine, page_id))
    manager.session_protection = None

    @app.before_request
    def _guard() -> ResponseReturnValue | None:
        if request.routing_exception is not None or request.endpoint in unguarded:
            return None
        request.max_content_length = bodies.limit_of(request.path)
        if (request.content_length or 0) > request.max_content_length:
            raise RequestEntityTooLarge
        need = need_of(app.view_functions[request.endpoint or ""])
        if need.role is None:
            return None
        wire.check_query(request.args)
        g.caller = identify(request, engine, vault)
        if g.caller is None and request.blueprint == "web":
            return to_login()
        allow(g.caller, need, (request.view_args or {}).get("bot_id"))
        if g.caller.by_cookie and request.method in _CHANGING:
            csrf.protect()
        return None

    @app.after_request
    def _secure(response: Response) -> Response:
        is_docs = request.path.startswith("/api/swagger")
        response.headers["Content-Security-Policy"] = _DOCS_CSP if is_docs else _CSP
        for name, value in _HEADERS.items():
            response.headers[name] = value
        if not is_docs:
            response.headers.setdefault("Cache-Control", "no-store")
        return compress(response)
