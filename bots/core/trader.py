"""The trading core: events in, commands and facts out. No sockets, files, clocks or randomness; time is market time.

`Trader.step` is the whole interface. Live process, paper trading, backtester and replayer are shells around it, so that
what is tested offline is what trades.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from math import isfinite
from typing import Any, Final

from bots.core import accounting, risk
from bots.core.by_people import Commands, HaltReport
from bots.core.candles import BarBuilder, Candle, Window
from bots.core.messages import (
    AccountSeen,
    CommandGiven,
    ConfigChanged,
    ControlChanged,
    Gate,
    OrderAbsent,
    OrderRefused,
    OrderReport,
    OrderUnknown,
    PriceSeen,
    QueryOrder,
    Quote,
    Tick,
)
from bots.core.open_orders import Output
from bots.core.order_manager import Entry, OrderManager
from bots.core.strategy import Action, Decision, Strategy
from shared.config import TradingConfig, config_diff, config_document
from shared.events import Alert, ConfigApplied, Position, RiskRefusal, SignalTaken, Snapshot
from shared.intervals import INTERVAL_MS
from shared.positions import Counters, Terms
from shared.states import DesiredState, OrderState, OrderType, Role
from shared.symbols import SymbolRules
from shared.units import exact

Event = (
    Candle
    | Tick
    | PriceSeen
    | Quote
    | OrderReport
    | OrderRefused
    | OrderAbsent
    | OrderUnknown
    | AccountSeen
    | ConfigChanged
    | ControlChanged
    | CommandGiven
    | Gate
)

_SECOND: Final = struct.Struct("<qd")
_QUIET: Final = frozenset({"max_positions", "cooldown", "backfilled"})
_BEHIND_MS: Final = 60_000
_SPEAKS_FOR_ITSELF: Final = frozenset({"held"})


@dataclass(slots=True)
class Tally:
    """What was decided in this run, for the heartbeat."""

    decisions: int = 0
    above_threshold: int = 0
    best_score: float | None = None
    last_decision_ms: int | None = None


class Trader:
    """One bot's decisions, positions and limits. Without a *strategy* (it could not be loaded) there are only exits."""

    def __init__(
        self,
        *,
        id_prefix: str,
        rules: SymbolRules,
        interval: str,
        strategy: Strategy | None,
        config: TradingConfig,
        config_version: int,
        memory: Snapshot | None = None,
    ) -> None:
        counters = memory.counters if memory else Counters()
        positions: Iterable[Position] = memory.positions if memory else ()
        self.id_prefix = id_prefix
        self.rules = rules
        self.config = config
        self.config_version = config_version
        self.now_ms = memory.last_event_ms if memory else 0
        self._remembered_ms = self.now_ms
        self.window = Window()
        self.tally = Tally()
        self.blocked: dict[str, int] = {}
        self.orders = OrderManager(id_prefix=id_prefix, rules=rules, positions=positions, counters=counters)
        self._strategy = strategy
        self._bars = BarBuilder(INTERVAL_MS[interval])
        self._quote: Quote | None = None
        self._account: AccountSeen | None = None
        self._control = ControlChanged(desired=DesiredState.PAUSED)
        self._commands = Commands(self.orders, memory.commands_done if memory else 0)
        self._halt_report = HaltReport(self.orders)
        self._gates: dict[str, str] = {}
        self._behind: str | None = None
        self._is_live = False
        self._late_exit: tuple[Decision, SignalTaken] | None = None
        self._last_refusal: str | None = None
        self._digest = hashlib.blake2b(digest_size=8)
        self._name_logic()
        self._handlers: dict[type[Any], Any] = {
            Candle: self._on_candle,
            Tick: self._on_tick,
            PriceSeen: self._on_price,
            Quote: self._on_quote,
            OrderReport: lambda e: self.orders.on_report(e, self.now_ms),
            OrderRefused: lambda e: self.orders.on_refused(e, self.now_ms),
            OrderAbsent: lambda e: self.orders.on_absent(e, self.now_ms),
            OrderUnknown: self.orders.on_unknown,
            AccountSeen: self._on_account,
            ConfigChanged: self._on_config,
            ControlChanged: self._on_control,
            CommandGiven: self._on_command,
            Gate: self._on_gate,
        }

    def step(self, event: Event) -> list[Output]:
        """Take one event; the facts come before the commands, and must be written before these are carried out.

        A `Position` among them is the living one, not a copy: write or read it before the next step.
        """
        self._handlers[type(event)](event)
        done = self._commands.acknowledge()
        if done:
            self.orders.entries_allowed = self.entry_hold is None
        self._halt_report.look(self._control)
        return self.orders.flush(done)

    def warm_up(self, bars: Iterable[Candle]) -> None:
        """Show the strategy closed bars of the bot's interval from before the first candle. Decides nothing."""
        if self._strategy is None:
            return
        try:
            for bar in bars:
                self._strategy.on_candle(bar, self.window, self.config)
        except Exception as error:
            self._go_on_without_strategy(error)

    def unsettled(self) -> list[QueryOrder]:
        """The questions to ask the exchange before trading goes on after a start or a lost connection."""
        return self.orders.unsettled()

    def snapshot(self) -> Snapshot:
        """All that must be remembered to go on after a crash."""
        return Snapshot(
            last_event_ms=self.now_ms,
            counters=self.orders.counters,
            positions=list(self.orders.positions.values()),
            commands_done=self._commands.done,
        )

    @property
    def bars_needed(self) -> int:
        """Closed bars of the bot's interval that the strategy wants to see before its first decision."""
        return self._strategy.bars_needed if self._strategy else 0

    @property
    def digest(self) -> str:
        """Running digest over the time, score and action of every decision of this run (16 hex digits)."""
        return self._digest.hexdigest()

    @property
    def entry_hold(self) -> str | None:
        """Why no entry may happen now, if something in control or shell forbids it."""
        if self._control.halted:
            return "halted"
        if self._control.desired is not DesiredState.RUNNING:
            return str(self._control.desired)
        if self._commands.entry_hold is not None:
            return self._commands.entry_hold
        if self._behind is not None:
            return self._behind
        return next(iter(self._gates.values()), None)

    @property
    def is_flat(self) -> bool:
        """No open position and no order that could become one."""
        return not self.orders.positions

    # --- market ----------------------------------------------------------------------------------------------------

    def _on_candle(self, candle: Candle) -> None:
        now = candle.end_ms
        if now <= self.window.end_ms:
            return
        if now > self.now_ms:
            self.now_ms = now
        if now <= self._remembered_ms or self._behind is not None:
            self._compare_with_memory(now, candle.backfilled)
        self.window.push(candle)
        self.orders.on_market(now, candle.low, candle.close, not candle.backfilled)
        if not candle.backfilled:
            self._is_live = True
            if self._late_exit is not None:
                self._exit_late(*self._late_exit, now)
        bar = self._bars.push(candle)
        if bar is None or self._strategy is None:
            return
        try:
            decision = self._strategy.on_candle(bar, self.window, self.config)
        except Exception as error:
            self._go_on_without_strategy(error)
            return
        if decision is not None:
            self._decide(decision, now, candle)

    def _compare_with_memory(self, now: int, is_backfilled: bool) -> None:
        """A live candle long before what is remembered: an older time is played, and it will not soon be over."""
        if now > self._remembered_ms:
            self._behind = None
        elif self._behind is None and not is_backfilled and now < self._remembered_ms - _BEHIND_MS:
            self._behind = (
                f"market time is {_utc(now)}, and this bot has traded until {_utc(self._remembered_ms)}: no entries "
                "and no guard over positions before that; play the market from there on, or create a new bot"
            )
        self.orders.entries_allowed = self.entry_hold is None

    def _go_on_without_strategy(self, error: Exception) -> None:
        """A strategy's bug ends the run only while nothing is held: open positions are guarded to their end first."""
        if self.is_flat:
            raise error
        self._strategy = None
        reason = f"the strategy failed: {type(error).__name__}: {error}"
        self._on_gate(Gate(source="strategy", reason=reason))
        text = f"No more entries, {reason}. Open positions are guarded. Restart the bot once they are closed."
        self.orders.tell(Alert(kind="strategy_failed", message=text))

    def _on_tick(self, tick: Tick) -> None:
        if tick.time_ms > self.now_ms:
            self.now_ms = tick.time_ms
            self.orders.on_time(tick.time_ms)

    def _on_price(self, seen: PriceSeen) -> None:
        self.now_ms = max(self.now_ms, seen.time_ms)
        self.orders.on_market(self.now_ms, seen.price, seen.price)

    def _on_quote(self, quote: Quote) -> None:
        self._quote = quote

    def _decide(self, decision: Decision, now: int, candle: Candle) -> None:
        if not candle.backfilled:
            self._record(decision, now)
        if decision.action is Action.ENTER:
            self._try_to_enter(decision, now, candle)
        elif decision.action is Action.EXIT and self.orders.positions:
            signal = self._signal(decision, now, candle)
            if not candle.backfilled:
                self._exit_by_signal(decision, signal, list(self.orders.positions.values()), now)
            elif self._is_live:
                self._late_exit = decision, signal

    def _record(self, decision: Decision, now: int) -> None:
        tally, score = self.tally, decision.score
        tally.decisions += 1
        tally.last_decision_ms = now
        if decision.action is Action.ENTER:
            tally.above_threshold += 1
        if score is not None and (tally.best_score is None or score > tally.best_score):
            tally.best_score = score
        self._digest.update(_SECOND.pack(now, -1.0 if score is None else score))
        self._digest.update(decision.action.encode())

    def _try_to_enter(self, decision: Decision, now: int, candle: Candle) -> None:
        self._late_exit = None
        if self._behind is not None:
            self._hold_back(risk.HeldBack("market_time_behind", self._behind), now)
            return
        if candle.backfilled or now <= self._remembered_ms:
            self._hold_back(risk.HeldBack("backfilled", "the candle came late"), now)
            return
        hold = self.entry_hold
        if hold is not None:
            self._hold_back(risk.HeldBack("held", hold), now)
            return
        counters = self.orders.counters
        accounting.roll_day(counters, now)
        account = risk.Account(
            open_positions=len(self.orders.positions),
            unrealised=self.orders.unrealised(),
            counters=counters,
            pending=self.orders.pending,
            paused_until_ms=self.orders.entry_pause_until_ms,
        )
        refused = risk.check_entry(now, account, self.config, self.rules)
        if refused is not None:
            self._hold_back(refused, now)
            return
        self._enter(decision, now, candle)

    def _enter(self, decision: Decision, now: int, candle: Candle) -> None:
        config = self.config
        estimate, price = self._entry_price(candle)
        size = risk.size_entry(estimate, self._account.quote_free if self._account else None, config, self.rules)
        if isinstance(size, risk.HeldBack):
            self._hold_back(size, now)
            return
        self._last_refusal = None
        self.orders.tell(self._signal(decision, now, candle))
        self.orders.enter(
            now,
            Entry(
                quantity=size,
                order_type=OrderType(config.entry_order_type.upper()),
                price=price,
                terms=Terms(
                    profit_target_pct=config.profit_target_pct,
                    stop_loss_pct=config.stop_loss_pct,
                    holding_time=config.holding_time,
                    take_profit_order=config.take_profit_order,
                    maker_order_timeout=config.maker_order_timeout,
                    on_entry_timeout=config.on_entry_timeout,
                ),
                config_version=self.config_version,
                model_id=getattr(config, "model_id", None),
                confidence=decision.score,
                entry_logic=self._entry_logic,
                exit_logic=self._exit_logic,
            ),
        )

    def _entry_price(self, candle: Candle) -> tuple[Decimal, Decimal | None]:
        """The price to size with, and the order's price (None at market)."""
        if self.config.entry_order_type == "market":
            return exact(self._quote.ask if self._quote else candle.close), None
        at_bid = self.config.entry_price == "bid" and self._quote is not None
        price = exact(self._quote.bid if at_bid and self._quote else candle.close)
        price = self.rules.round_price_down(price) - self.config.entry_offset_ticks * self.rules.tick_size
        return price, price

    def _exit_late(self, decision: Decision, signal: SignalTaken, now: int) -> None:
        """Obey what was decided in a gap of the stream, at the first live price, for what was held at that time."""
        self._late_exit = None
        held = [p for p in self.orders.positions.values() if (p.activated_ms or now) < signal.decision_ms]
        self._exit_by_signal(decision, signal, held, now)

    def _exit_by_signal(self, decision: Decision, signal: SignalTaken, held: list[Position], now: int) -> None:
        price = self.orders.price
        assert price is not None
        leaving = [p for p in held if _may_leave(p, price, decision.min_profit)]
        if leaving:
            self.orders.tell(signal)
        for position in leaving:
            self.orders.exit(position, "signal", now)

    def _signal(self, decision: Decision, now: int, candle: Candle) -> SignalTaken:
        assert self._strategy is not None
        values, digest = self._strategy.explain()
        return SignalTaken(
            decision_ms=now,
            action=decision.action.value,
            price=candle.close,
            score=decision.score,
            threshold=decision.threshold,
            values={name: value for name, value in values.items() if isfinite(value)},
            feature_digest=digest,
        )

    def _hold_back(self, refused: risk.HeldBack, now: int) -> None:
        self.blocked[refused.code] = self.blocked.get(refused.code, 0) + 1
        if refused.code in _QUIET:
            return
        reason = refused.message if refused.code in _SPEAKS_FOR_ITSELF else refused.code
        if reason != self._last_refusal:
            self._last_refusal = reason
            self.orders.tell(RiskRefusal(code=refused.code, message=refused.message, time_ms=now))

    # --- people and shell ------------------------------------------------------------------------------------------

    def _on_account(self, account: AccountSeen) -> None:
        self._account = account
        self.orders.base_free = account.base_free

    def _on_gate(self, gate: Gate) -> None:
        if gate.reason is None:
            self._gates.pop(gate.source, None)
        else:
            self._gates[gate.source] = gate.reason
        self.orders.entries_allowed = self.entry_hold is None

    def _on_config(self, change: ConfigChanged) -> None:
        changed = config_diff(config_document(self.config), config_document(change.config))
        self.config, self.config_version = change.config, change.version
        self._name_logic()
        self.orders.tell(ConfigApplied(version=change.version, changed=list(changed)))
        if self._control.desired is DesiredState.STOPPED:
            self._on_control(self._control)

    def _name_logic(self) -> None:
        """The texts that say why positions are entered and how they end; the same until the config changes."""
        self._entry_logic = self._strategy.entry_logic(self.config) if self._strategy else ""
        self._exit_logic = _exit_logic(self.config)

    def _on_control(self, control: ControlChanged) -> None:
        """Stopping settles everything by `on_stop`; pausing and halting withdraw entries but guard what is held."""
        self._control = control
        self.orders.entries_allowed = self.entry_hold is None
        if control.desired is DesiredState.RUNNING and not control.halted:
            return
        for position in list(self.orders.positions.values()):
            if control.close_positions:
                self.orders.exit(position, "kill_switch", self.now_ms)
            elif control.desired is DesiredState.STOPPED and self.config.on_stop == "close":
                self.orders.exit(position, "bot_stopped", self.now_ms)
            else:
                self.orders.withdraw_entry(position, "halted" if control.halted else str(control.desired), self.now_ms)

    def _on_command(self, command: CommandGiven) -> None:
        self._commands.take(command, self.now_ms)
        self.orders.entries_allowed = self.entry_hold is None

    @property
    def is_settled(self) -> bool:
        """After a stop: nothing is left to do before the process may end."""
        if self.config.on_stop == "close":
            return self.is_flat
        if self._commands.entry_hold is not None:
            return False
        return not any(_is_in_motion(position) for position in self.orders.positions.values())

    def renew_strategy(self, strategy: Strategy, bars: Iterable[Candle], seconds: Iterable[Candle]) -> None:
        """Go on with *strategy*, fresh, once it has seen *bars* and the *seconds* behind them. Decides nothing.

        The last of *seconds* is the last candle that was taken. A strategy that failed is not replaced.
        """
        if self._strategy is None:
            return
        self._strategy, self.window, self._bars = strategy, Window(), BarBuilder(self._bars.interval_ms)
        try:
            self.warm_up(bars)
            for candle in seconds:
                self.window.push(candle)
                bar = self._bars.push(candle)
                if bar is not None:
                    strategy.on_candle(bar, self.window, self.config)
        except Exception as error:
            self._go_on_without_strategy(error)


def _utc(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _may_leave(position: Position, price: Decimal, min_profit: Decimal | None) -> bool:
    if position.entry_price is None or position.exiting is not None:
        return False
    return min_profit is None or price > position.entry_price * (1 + min_profit)


def _is_in_motion(position: Position) -> bool:
    """Whether an order of it is on its way, or it is being sold: all but a position with its target in the book."""
    if position.exiting is not None:
        return True
    moving = (OrderState.INTENT, OrderState.UNKNOWN)
    return any(leg.status in moving or (leg.role is Role.ENTRY and not leg.is_settled) for leg in position.legs)


def _exit_logic(config: TradingConfig) -> str:
    parts = []
    if config.profit_target_pct is not None:
        parts.append(f"target +{config.profit_target_pct:%}")
    if config.stop_loss_pct is not None:
        parts.append(f"stop -{config.stop_loss_pct:%}")
    if config.holding_time is not None:
        parts.append(f"after {config.holding_time} s")
    return ", ".join(parts) or "by hand"
