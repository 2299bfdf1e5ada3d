"""Signing in and out."""

from __future__ import annotations

from urllib.parse import urlsplit

from flask import current_app, g, redirect, render_template, request, session, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user, login_user, logout_user
from flask_wtf.csrf import CSRFError, validate_csrf
from wtforms.validators import ValidationError

from server.api.auth import FAILED_LOGIN_LIMIT, LOGIN_LIMIT, is_failed_login, login_key
from server.api.wire import caller, engine, limiter
from server.security.auth import identify, revoke
from server.security.roles import Role, needs, public
from server.security.sessions import open_session
from server.security.users import check_password
from server.storage.engine import write
from server.web.resume import pack, unpack
from server.web.shell import web


@web.get("/login")
@public
def login_page() -> ResponseReturnValue:
    """The form to sign in."""
    return _form(local_path(request.args.get("next")))


@web.post("/login")
@limiter.limit(LOGIN_LIMIT, key_func=login_key)
@limiter.limit(FAILED_LOGIN_LIMIT, key_func=login_key, deduct_when=is_failed_login)
@public
def sign_in() -> ResponseReturnValue:
    """Check name and password; back to the page that was asked for."""
    username, target = request.form.get("username", ""), local_path(request.form.get("next"))
    try:
        validate_csrf(request.form.get("csrf_token"))
    except (CSRFError, ValidationError):
        return _form(target, username, "The form was too old. Send it again."), 403
    user = check_password(engine(), username[:200], request.form.get("password", "")[:1000])
    if user is None:
        return _form(target, username, "Name and password do not match."), 401
    with write(engine()) as connection:
        if current_user.is_authenticated:
            revoke(connection, current_user.session_id)
        page_user = open_session(connection, user, request.user_agent.string)
    session.clear()
    session.permanent = True
    login_user(page_user)
    resumed = unpack(request.form.get("carried"))
    if resumed is not None:
        g.caller = identify(request, engine(), current_app.extensions["flotilla"].vault)
        return render_template("resume.html", resumed=resumed, back=target or url_for("web.fleet_page"))
    return redirect(target or url_for("web.fleet_page"), 303)


@web.post("/logout")
@needs(Role.VIEWER)
def sign_out() -> ResponseReturnValue:
    """End the session, on the server too: a copy of its cookie is worth nothing afterwards."""
    with write(engine()) as connection:
        revoke(connection, caller().token_id or 0)
    logout_user()
    session.clear()
    return redirect(url_for("web.login_page"), 303)


def to_login() -> ResponseReturnValue:
    """Send somebody unknown to the sign-in page, and back afterwards; what they sent goes along."""
    carried = pack()
    if carried is not None:
        came_from = urlsplit(request.referrer or "")
        back = local_path(came_from.path + (f"?{came_from.query}" if came_from.query else ""))
        return _form(back if came_from.netloc == request.host else None, carried=carried), 401
    wanted = request.full_path.rstrip("?") if request.method == "GET" else None
    target = wanted if wanted != "/" else None
    return redirect(url_for("web.login_page", next=target), 303)


def _form(target: str | None, username: str = "", error: str | None = None, carried: str | None = None) -> str:
    carried = carried or request.form.get("carried")
    return render_template("login.html", next=target, username=username, error=error, carried=carried)


def local_path(target: str | None) -> str | None:
    """*target* if it is a path of this site, else None: nobody is sent elsewhere after signing in."""
    if not target or not target.startswith("/") or target.startswith(("//", "/\\")) or not target.isprintable():
        return None
    parts = urlsplit(target)
    return None if parts.scheme or parts.netloc or "\\" in target else target
