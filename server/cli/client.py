"""The REST API as commands use it: which server, with which token, and one sentence for whatever goes wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any, TypeVar

import click
import requests

from server.settings import Settings, load_settings
from shared.errors import FlotillaError

TIMEOUT_S = 30.0
F = TypeVar("F", bound=Callable[..., Any])


class NoAnswer(FlotillaError):
    """The server cannot be reached."""

    code = "no_answer"


class ApiRefused(FlotillaError):
    """The server said no, in its own words; *status* is the HTTP status."""

    code = "refused"

    def __init__(self, status: int, message: str, fields: dict[str, str] | None = None) -> None:
        super().__init__(message, fields=fields)
        self.status = status


class NoToken(FlotillaError):
    """There is nothing to log in with."""

    code = "no_token"


class Client:
    """One server, one caller."""

    def __init__(self, server: str, token: str) -> None:
        self.server = server
        self._session = requests.Session()
        self._session.trust_env = False  # no proxy between this machine's own parts, no .netrc in place of the token
        self._session.headers.update({"Authorization": f"Bearer {token}", "X-Flotilla-Via": "cli"})

    def get(self, path: str, **query: Any) -> Any:
        """The answer's JSON. Raises `NoAnswer`, `ApiRefused`."""
        return self._ask("GET", path, params={name: value for name, value in query.items() if value is not None})

    def post(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """The answer's JSON. Raises `NoAnswer`, `ApiRefused`."""
        return self._ask("POST", path, **({} if body is None else {"json": body}))

    def delete(self, path: str) -> None:
        """Raises `NoAnswer`, `ApiRefused`."""
        self._ask("DELETE", path)

    def items(self, path: str, **query: Any) -> Iterator[dict[str, Any]]:
        """All items of a list, page by page. Raises `NoAnswer`, `ApiRefused`."""
        cursor = None
        while True:
            page = self.get(path, **{"limit": 500, **query, "cursor": cursor})
            yield from page["items"]
            cursor = page["next_cursor"]
            if cursor is None:
                return

    def _ask(self, method: str, path: str, **more: Any) -> Any:
        try:
            answer = self._session.request(method, self.server + path, timeout=TIMEOUT_S, allow_redirects=False, **more)
        except requests.Timeout:
            raise NoAnswer(f"{self.server} did not answer within {TIMEOUT_S:g} s.") from None
        except (requests.RequestException, UnicodeError):  # UnicodeError: a host or token that no header can hold
            raise NoAnswer(
                f"No answer from {self.server}. Start Flotilla (make run), or name the server with --server."
            ) from None
        if answer.status_code == 204:
            return None
        try:
            document = answer.json()
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise ApiRefused(answer.status_code, f"What answers at {self.server} is not Flotilla.")
        if answer.ok:
            return document
        error = document.get("error") or {}
        raise ApiRefused(answer.status_code, str(error.get("message", answer.reason)), dict(error.get("fields") or {}))


def connect(server: str | None, token: str | None) -> Client:
    """A client of *server*, or of this installation's. Raises `NoToken`."""
    settings = load_settings()
    local = settings.base_url
    target = (server or local).rstrip("/")
    if not target.startswith(("http://", "https://")):
        target = f"http://{target}"
    return Client(target, token or _local_token(settings, target == local))


def _local_token(settings: Settings, is_local: bool) -> str:
    if not is_local:  # the admin token of this machine is no other server's business
        raise NoToken("Another server needs a token of its own: --token or FLOTILLA_TOKEN.")
    try:
        return settings.cli_token_file.read_text().strip()
    except FileNotFoundError:
        raise NoToken(
            f"There is no {settings.cli_token_file}. Start Flotilla once (make run), or set FLOTILLA_TOKEN."
        ) from None


def talks_to_server(command: F) -> F:
    """Add ``--server`` and ``--token``; the command gets a `Client` as *client*."""

    @click.option("--server", metavar="URL", envvar="FLOTILLA_SERVER", help="The server; default: this machine's.")
    @click.option("--token", metavar="TOKEN", envvar="FLOTILLA_TOKEN", help="Default: $FLOTILLA_HOME/cli.token.")
    @wraps(command)
    def with_client(*args: Any, server: str | None, token: str | None, **options: Any) -> Any:
        return command(*args, client=connect(server, token), **options)

    return with_client  # type: ignore[return-value]
