"""What people want of the bot now: what the server says, and the halt file of this machine. Either one halts.

The file needs no server: it is looked at once a second and before every entry.
"""

from __future__ import annotations

from pathlib import Path

from bots.core.messages import CommandGiven, ControlChanged
from shared.config import Applies, TradingConfig, applies_of, config_diff, config_document
from shared.halt import HaltOrder, halt_order
from shared.tickets import Control, ControlDocument, OneShot, RunTicket


class Wishes:
    """The newest control document and the halt file, merged."""

    def __init__(self, ticket: RunTicket) -> None:
        self._control: Control = ticket.document.control
        self._commands: tuple[OneShot, ...] = ticket.document.commands
        self._file = Path(ticket.halt_file) if ticket.halt_file is not None else None
        self._order: HaltOrder | None = None
        self.look_at_file()

    def take(self, document: ControlDocument) -> bool:
        """Take what the server says; whether it differs from what it said before."""
        before = self._control, self._commands
        self._control, self._commands = document.control, document.commands
        return before != (self._control, self._commands)

    def look_at_file(self) -> bool:
        """Read the halt file; whether it says something else than before."""
        before = self._order
        self._order = halt_order(self._file.read_bytes) if self._file is not None else None
        return self._order != before

    @property
    def halt_words(self) -> str | None:
        """Why the bot is halted; None if it is not."""
        if self._order is not None:
            return self._order.words
        return (self._control.halt_reason or "halted") if self._control.halted else None

    @property
    def control(self) -> ControlChanged:
        """What the core has to be told."""
        return ControlChanged(
            desired=self._control.desired,
            halted=self.halt_words is not None,
            halt_reason=self.halt_words,
            close_positions=self._control.close_positions or (self._order is not None and self._order.close_positions),
        )

    @property
    def commands(self) -> list[CommandGiven]:
        """The one-shot commands that the server knows not to be done yet, in the order of their numbers."""
        return [
            CommandGiven(number=c.number, verb=c.verb, position_key=c.args.get("position_key"))
            for c in sorted(self._commands, key=lambda command: command.number)
        ]


def without_restart_fields(current: TradingConfig, wanted: TradingConfig) -> tuple[TradingConfig, list[str]]:
    """*wanted*, but with the fields that need a restart as they are now; and which of them differ."""
    changed = config_diff(config_document(current), config_document(wanted))
    waiting = [name for name in changed if applies_of(type(wanted), name) is Applies.RESTART]
    return wanted.model_copy(update={name: getattr(current, name) for name in waiting}), waiting
