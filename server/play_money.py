"""Accounts at the simulator: opened with play money for whoever asks."""

from __future__ import annotations

from collections.abc import Mapping

import requests

from shared.errors import FlotillaError


class NoAccount(FlotillaError):
    """The simulator opened no account."""

    code = "no_account"
    http_status = 503


def open_account(simulator: str, balances: Mapping[str, str]) -> dict[str, str]:
    """``api_key`` and ``api_secret`` of a new account with these amounts by asset. Raises `NoAccount`."""
    try:
        with requests.Session() as session:
            session.trust_env = False
            answer = session.post(f"{simulator}/sim/accounts", json={"balances": dict(balances)}, timeout=30)
            keys = answer.json()
    except (requests.RequestException, ValueError) as error:
        raise NoAccount(f"The simulator at {simulator} does not answer ({type(error).__name__}).") from None
    if answer.status_code != 201:
        raise NoAccount(f"The simulator opened no account: {answer.text[:500]}")
    return {"api_key": keys["api_key"], "api_secret": keys["api_secret"]}
