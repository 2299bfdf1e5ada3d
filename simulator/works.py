"""The running exchange as faults may touch it: statuses, limits, balances, the API clock, the websockets."""

from __future__ import annotations

from simulator.doors.lines import Lines
from simulator.doors.streams import Streams
from simulator.doors.ws_api import WsApi
from simulator.faults.kinds import Hangup
from simulator.venue import Venue


class Works:
    """The `Plant` of one simulator."""

    def __init__(self, venue: Venue, streams: Streams, ws_api: WsApi) -> None:
        self._venue = venue
        self._streams = streams
        self._ws_api = ws_api
        self._lines = Lines(streams, ws_api)

    def set_status(self, symbol: str, status: str) -> None:
        """TRADING, HALT, BREAK or CANCEL_ONLY; ``ValueError`` for an unknown symbol."""
        if self._venue.exchange.statuses.get(symbol) != status:
            self._venue.set_status(symbol, status)

    def change_filters(self, symbol: str, changes: dict[str, str]) -> None:
        """New limits by name; ``ValueError`` with a sentence where they cannot be."""
        self._venue.change_filters(symbol, changes)

    def transfer(self, api_key: str, asset: str, atoms: int) -> None:
        """Change what an account has free; ``ValueError`` with a sentence where it cannot be."""
        self._venue.transfer(api_key, asset, atoms)

    def set_skew(self, ms: int) -> None:
        """The API clock is *ms* ahead of the wall."""
        self._venue.skew_ms = ms

    def deafen(self, api_key: str) -> None:
        """End the user streams of an account ("": of all) without telling."""
        self._ws_api.deafen(api_key)

    def abort(self, which: Hangup) -> None:
        """Cut websocket connections."""
        self._lines.abort(self._lines.chosen(which.select, which.stream, which.api_key))

    def close(self, which: Hangup, code: int) -> None:
        """Close websocket connections cleanly."""
        self._lines.close(self._lines.chosen(which.select, which.stream, which.api_key), code)

    def shut_down(self, grace_s: float) -> None:
        """Announce the end to all websockets, and close them *grace_s* later."""
        self._streams.shut_down(grace_s)
        self._ws_api.shut_down(grace_s)
