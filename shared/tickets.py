"""The run ticket: all that one bot process needs to start, and the control document that it polls while it runs.

The supervisor hands the ticket over through an inherited descriptor, so that no secret stands in arguments, environment
or a file; whoever launches a bot by hand gets it from the server. It is JSON on both ways; all ends read it with this
module.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from pydantic import TypeAdapter

from shared.events import Snapshot
from shared.states import DesiredState, RunKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """What people want of the bot now. Halted wins over everything; *close_positions* comes with the kill switch."""

    desired: DesiredState
    halted: bool = False
    halt_reason: str | None = None
    close_positions: bool = False


class Verb(StrEnum):
    """The one-shot commands; those about one position name it by its key."""

    CLOSE_POSITIONS = "close_positions"
    CLOSE_POSITION = "close_position"
    FORGET_POSITION = "forget_position"


@dataclass(frozen=True, slots=True, kw_only=True)
class OneShot:
    """A command to be carried out once, and acknowledged by its number with ``command.done``."""

    number: int
    verb: str
    args: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlDocument:
    """The answer of ``GET /api/bots/{id}/control``; one ETag covers all of it."""

    control: Control
    config_version: int
    config: dict[str, Any]
    commands: tuple[OneShot, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelReference:
    """A registered model: loaded only when the file at *path* has this SHA-256 (hex); at *url* other hosts get it."""

    id: int
    sha256: str
    path: str
    url: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoints:
    """Where the exchange lives: REST base (ends in ``/api``), market streams (ends in ``/``), websocket API."""

    rest: str
    streams: str
    ws_api: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunTicket:
    """One run of one bot. *home* is the bot's folder: journals, lock and last control copy live there.

    *memory* is what the rows say that the bot holds. It counts where *home* has no memory of a run as late as
    *memory_generation*: where the latest ones ran on another host.

    While *halt_file* exists, the kill switch is engaged.
    """

    bot_id: int
    name: str
    generation: int
    install: str
    strategy: str
    symbol: str
    exchange: str
    mode: str
    interval: str
    document: ControlDocument
    model: ModelReference | None
    endpoints: Endpoints
    api_key: str = field(repr=False)
    api_secret: str = field(repr=False)
    server_url: str
    token: str = field(repr=False)
    home: str
    kind: RunKind = RunKind.SUPERVISED
    memory: Snapshot | None = None
    memory_generation: int = 0
    halt_file: str | None = None

    @property
    def run_id(self) -> str:
        """``<bot>.<generation>``."""
        return f"{self.bot_id}.{self.generation}"

    def to_json(self) -> bytes:
        """The ticket as it goes through the descriptor."""
        return TypeAdapter(RunTicket).dump_json(self)

    @classmethod
    def from_json(cls, text: bytes) -> RunTicket:
        """Read a ticket. Raises ``pydantic.ValidationError``."""
        return TypeAdapter(RunTicket).validate_json(text)


def control_document(document: Mapping[str, Any] | bytes) -> ControlDocument:
    """Read a polled answer. Raises ``pydantic.ValidationError`` (a ``ValueError``)."""
    loaded = json.loads(document) if isinstance(document, bytes) else dict(document)
    return TypeAdapter(ControlDocument).validate_python(loaded)
