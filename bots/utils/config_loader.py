"""Poll the server for config and control: at the start, each 30 s, and at once when woken. One ETag covers both.

A server that is down changes nothing: the last good document stays in force, and `age_s` tells how old it is. One that
does not know this run any more, or knows of a later one, is another matter: `refused` says why, for nothing is to be
entered then.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

import aiohttp

from shared.tickets import ControlDocument, control_document

POLL_S: Final = 30.0
TIMEOUT_S: Final = 10.0
_REFUSALS: Final = {
    401: "the server does not know this run any more: it was replaced, or its token revoked",
    409: "another run has taken this one's place",
}

log = logging.getLogger(__name__)


class ConfigLoader:
    """Hands every changed document to *on_change* until cancelled."""

    def __init__(self, url: str, token: str, on_change: Callable[[ControlDocument], None]) -> None:
        self._url = url
        self._headers = {"Authorization": f"Bearer {token}"}
        self._on_change = on_change
        self._wake = asyncio.Event()
        self._wake.set()
        self._seen_at = time.monotonic()
        self.failing = False
        self.refused: str | None = None
        """Why the server has nothing more to say to this run; None while it has."""

    def age_s(self) -> float:
        """Seconds since the server last confirmed the document."""
        return time.monotonic() - self._seen_at

    def poll_now(self) -> None:
        """Do not wait for the next turn."""
        self._wake.set()

    async def run(self) -> None:
        """Poll for ever."""
        etag: str | None = None
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S)) as session:
            while True:
                try:
                    async with asyncio.timeout(POLL_S):
                        await self._wake.wait()
                except TimeoutError:
                    pass
                self._wake.clear()
                etag = await self._poll(session, etag)

    async def _poll(self, session: aiohttp.ClientSession, etag: str | None) -> str | None:
        headers = self._headers | ({"If-None-Match": etag} if etag else {})
        try:
            async with session.get(self._url, headers=headers) as answer:
                if answer.status not in (200, 304):
                    self.refused = _REFUSALS.get(answer.status, self.refused)
                    self._failed(f"answered {answer.status}")
                    return etag
                document = control_document(await answer.read()) if answer.status == 200 else None
                etag = answer.headers.get("ETag", etag)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            self._failed(f"{type(error).__name__}: {error}")
            return etag
        self._confirmed()
        if document is not None:
            self._on_change(document)
        return etag

    def _confirmed(self) -> None:
        if self.failing:
            log.info("the server answers again")
        self.failing, self.refused = False, None
        self._seen_at = time.monotonic()

    def _failed(self, why: str) -> None:
        if not self.failing:
            log.warning("the config cannot be polled, the last one stays in force: %s", why)
        self.failing = True
