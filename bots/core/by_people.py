"""What people tell a bot beside running and pausing: one-shot commands, and whether a halt has done its work.

A command is carried out once. It is done when what it is about has ended; commands are acknowledged in the order of
their numbers, so that the last number done is all that has to be remembered.
"""

from __future__ import annotations

from dataclasses import dataclass

from bots.core.messages import CommandGiven, ControlChanged
from bots.core.order_manager import OrderManager
from shared.events import CommandDone, HaltSeen
from shared.states import OrderState, Role
from shared.tickets import Verb


@dataclass(frozen=True, slots=True)
class _UnderWay:
    """A command that was begun: it is done when none of the positions *keys* is open any more."""

    keys: frozenset[int]
    result: str


class Commands:
    """The one-shot commands of one bot; *done* is the last number that was acknowledged, in this run or before."""

    def __init__(self, orders: OrderManager, done: int) -> None:
        self.done = done
        self._orders = orders
        self._under_way: dict[int, _UnderWay] = {}
        self._told: set[int] = set()
        self._words: list[CommandDone] = []

    @property
    def entry_hold(self) -> str | None:
        """Why no entry may happen: until all commands are done, nothing new is begun."""
        return "closing positions" if self._under_way else None

    def take(self, command: CommandGiven, now_ms: int) -> None:
        """Begin *command*; one that was taken before changes nothing."""
        number = command.number
        if number in self._under_way or number in self._told:
            return
        if number <= self.done:  # of an earlier run, whose word got lost
            self._acknowledge(number, "done before")
            return
        self._under_way[number] = self._begin(command, now_ms)

    def acknowledge(self) -> list[CommandDone]:
        """What is done, in order: to be written behind the positions that it is about."""
        for number in sorted(self._under_way):
            if self._under_way[number].keys & self._orders.positions.keys():
                break
            self._acknowledge(number, self._under_way.pop(number).result)
        words, self._words = self._words, []
        return words

    def _begin(self, command: CommandGiven, now_ms: int) -> _UnderWay:
        positions = self._orders.positions
        is_about_all = command.verb == Verb.CLOSE_POSITIONS
        keys = frozenset(key for key in positions if is_about_all or key == command.position_key)
        if command.verb == Verb.FORGET_POSITION:
            for key in keys:
                self._orders.forget(positions[key], now_ms)
            return _UnderWay(frozenset(), "forgotten" if keys else "nothing to forget")
        if command.verb not in (Verb.CLOSE_POSITIONS, Verb.CLOSE_POSITION):
            return _UnderWay(frozenset(), f"not done: this bot does not know {command.verb!r}")
        for key in keys:
            self._orders.exit(positions[key], "by_hand", now_ms)
        return _UnderWay(keys, f"closed {len(keys)}" if keys else "nothing to close")

    def _acknowledge(self, number: int, result: str) -> None:
        self.done = max(self.done, number)
        self._told.add(number)
        self._words.append(CommandDone(number=number, result=result))


class HaltReport:
    """Says that the bot is halted, how many entry orders are still to be withdrawn, and when none is left."""

    def __init__(self, orders: OrderManager) -> None:
        self._orders = orders
        self._told: HaltSeen | None = None

    def look(self, control: ControlChanged) -> None:
        """Tell what has changed since it was told last; nothing for a bot that was never halted."""
        if self._told is None and not control.halted:
            return
        now = self._seen(control)
        if now != self._told:
            self._orders.tell(now)
        self._told = now if control.halted else None

    def _seen(self, control: ControlChanged) -> HaltSeen:
        positions = self._orders.positions.values()
        states = [leg.status for p in positions for leg in p.legs if leg.role is Role.ENTRY and not leg.is_settled]
        unknown = sum(state in (OrderState.INTENT, OrderState.UNKNOWN) for state in states)
        held = [position for position in positions if position.quantity]
        return HaltSeen(
            halted=control.halted,
            reason=control.halt_reason,
            waiting=len(states) - unknown,
            unknown=unknown,
            positions=len(held),
            without_stop=sum(position.stop_price is None for position in held),
        )
