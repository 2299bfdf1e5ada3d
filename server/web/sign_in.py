"""Signing in and out."""

from __future__ import annotations

from urllib.parse import urlsplit

from flask import redirect, render_template, request, session, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user, login_user, logout_user
from flask_wtf.csrf import CSRFError, validate_csrf
from wtforms.validators import ValidationError

from server.api.auth import FAILED_LOGIN_LIMIT, LOGIN_LIMIT, is_failed_login, login_key
from server.api.wire import caller, engine, limiter
from server.security.auth import revoke
from server.security.roles import Role, needs, public
from server.security.sessions import open_session
from server.security.users import check_password
from server.storage.engine import write
from server.web.shell import web


@web.get("/login")
@public
def login_page() -> ResponseReturnValue:
    """The form to sign in."""
    return render_template("login.html", next=local_path(request.args.get("next")), username="", error=None)


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
        error = "The form was too old. Send it again."
        return render_template("login.html", next=target, username=username, error=error), 403
    user = check_password(engine(), username[:200], request.form.get("password", "")[:1000])
    if user is None:
        error = "Name and password do not match."
        return render_template("login.html", next=target, username=username, error=error), 401
    with write(engine()) as connection:
        if current_user.is_authenticated:
            revoke(connection, current_user.session_id)
        page_user = open_session(connection, user, request.user_agent.string)
    session.clear()
    session.permanent = True
    login_user(page_user)
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
    """Send somebody unknown to the sign-in page, and back afterwards."""
    wanted = request.full_path.rstrip("?") if request.method == "GET" else None
    target = wanted if wanted != "/" else None
    return redirect(url_for("web.login_page", next=target), 303)


def local_path(target: str | None) -> str | None:
    """*target* if it is a path of this site, else None: nobody is sent elsewhere after signing in."""
    if not target or not target.startswith("/") or target.startswith(("//", "/\\")) or not target.isprintable():
        return None
    parts = urlsplit(target)
    return None if parts.scheme or parts.netloc or "\\" in target else target
