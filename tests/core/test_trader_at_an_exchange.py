"""Whatever an exchange, a network and a killer do to a trader, the money adds up and nothing is done twice."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from bots.core.accounting import roll_day
from bots.core.memory import recall
from bots.core.messages import CommandGiven, ConfigChanged, ControlChanged, PlaceOrder, Tick
from bots.core.trader import Trader
from shared.events import CommandDone, FillBooked, OrderIntent, Payload, Position, Snapshot
from shared.positions import Counters
from shared.states import DesiredState, PositionState, Side
from tests.core.builders import ENTER, EXIT, RULES, Scripted, a_candle, a_config, at, through_a_file
from tests.core.reference_exchange import ReferenceExchange

WHICH = st.integers(0, 50)
SHARE = st.sampled_from([Decimal(1), Decimal(1), Decimal("0.5"), Decimal("0.013"), Decimal("0.0001")])
FATES = st.sampled_from(["arrives", "arrives", "arrives", "refused", "post_only", "vanishes", "unanswered"])
CUT = st.sampled_from([None, None, None, None, None, 0, 1, 2, 3, 4, 5])
MOST_POSITIONS = 3
RUN = ControlChanged(desired=DesiredState.RUNNING)


class TraderAtAnExchange(RuleBasedStateMachine):
    """Candles, the exchange, the network, people and the killer take turns at random."""

    @initialize(
        fee_in_quote=st.booleans(),
        entry=st.sampled_from(["limit_maker", "limit", "market"]),
        profit=st.sampled_from(["resting", "watched"]),
        late=st.sampled_from(["cancel", "market"]),
        capital=st.sampled_from(["100", "5.3", "33.333"]),
        on_stop=st.sampled_from(["close", "hold"]),
    )
    def begin(self, fee_in_quote, entry, profit, late, capital, on_stop):
        self.config = a_config(
            max_positions=MOST_POSITIONS, entry_order_type=entry, take_profit_order=profit, on_entry_timeout=late,
            capital_per_trade=capital, on_stop=on_stop, maker_order_timeout=5, holding_time=40,
        )  # fmt: skip
        self.exchange = ReferenceExchange(RULES, fee_in_quote, base=Decimal(5))
        self.journal: list[Payload] = []
        self.memory: Snapshot | None = None
        self.intents: dict[str, OrderIntent] = {}
        self.sent: set[str] = set()
        self.second, self.version = 0, 1
        self.control = RUN
        self.commands: list[CommandGiven] = []
        self.start(Snapshot(last_event_ms=0, counters=Counters(), positions=[]))

    def start(self, memory: Snapshot) -> None:
        self.write([memory])
        self.strategy = Scripted()
        self.trader = Trader(
            id_prefix="fabc-3", rules=RULES, interval="1s", strategy=self.strategy, config=self.config,
            config_version=self.version, memory=memory,
        )  # fmt: skip
        for question in self.trader.unsettled():
            self.feed(self.exchange.answer(question.client_order_id))
        self.give_commands()
        self.feed(self.control)

    def feed(self, event: Any, cut: int | None = None) -> None:
        """One step; with *cut* the process dies after that many of its facts are written, and sends nothing."""
        outputs = self.trader.step(event)
        facts = [o for o in outputs if isinstance(o, Payload)]
        commands = outputs[len(facts) :]
        assert not any(isinstance(c, Payload) for c in commands), "facts come before commands"
        self.write(facts[:cut])
        if cut is not None:
            self.die_and_return(arrived=cut % 2 == 0)
            return
        for command in commands:
            if isinstance(command, PlaceOrder):
                self.check_order(command)
            self.exchange.wire.append(command)

    def write(self, facts: list[Payload]) -> None:
        written = through_a_file(facts)
        self.journal += written
        self.intents |= {f.client_order_id: f for f in written if isinstance(f, OrderIntent)}
        memory = recall([*([self.memory] if self.memory else []), *written])
        assert memory is not None
        self.memory = memory

    def die_and_return(self, arrived: bool) -> None:
        """What was on the wire has arrived or is lost for good before the next run asks; what was said is lost."""
        while self.exchange.wire:
            self.exchange.take(0, "arrives" if arrived else "vanishes", Decimal(1))
        self.exchange.said.clear()
        self.start(self.memory)

    def check_order(self, order: PlaceOrder) -> None:
        name = order.client_order_id
        assert name not in self.sent, "an order was placed twice"
        assert len(name) <= 36
        self.sent.add(name)
        assert self.intents[name].quantity == order.quantity, "the intent is written before the order is sent"
        assert RULES.round_quantity(order.quantity) == order.quantity
        if order.side is Side.SELL:
            assert order.quantity <= self.exchange.sellable(name.split("-")[2]), "more is sold than is held"
        else:
            assert self.control == RUN, "nothing is bought unless running"

    # --- who acts --------------------------------------------------------------------------------------------------

    @rule(
        move=st.integers(-250, 250),
        dip=st.integers(0, 300),
        decide=st.sampled_from([None, ENTER, ENTER, EXIT]),
        late=st.sampled_from([False, False, False, True]),
        cut=CUT,
    )
    def candle(self, move, dip, decide, late, cut):
        self.second += 1
        exchange = self.exchange
        exchange.price = max(Decimal(80), exchange.price + Decimal(move) / 100)
        exchange.now_ms = at(self.second) - 400
        self.strategy.next = decide
        close = float(exchange.price)
        self.feed(a_candle(self.second, close, low=close - dip / 100, backfilled=late), cut)

    @rule(seconds=st.integers(1, 15))
    def silence(self, seconds):
        self.second += seconds
        self.exchange.now_ms = at(self.second) - 400
        self.feed(Tick(at(self.second)))

    @precondition(lambda self: self.exchange.wire)
    @rule(which=WHICH, fate=FATES, share=SHARE)
    def a_command_arrives(self, which, fate, share):
        self.exchange.take(which, fate, share)

    @precondition(lambda self: self.exchange.said)
    @rule(which=WHICH, again=st.booleans(), cut=CUT)
    def a_message_arrives(self, which, again, cut):
        self.feed(self.exchange.heard(which, again), cut)

    @precondition(lambda self: self.exchange.said)
    @rule(which=WHICH)
    def a_message_is_lost(self, which):
        self.exchange.lose(which)

    @precondition(lambda self: self.exchange.open_orders)
    @rule(which=WHICH, share=SHARE)
    def an_order_is_filled(self, which, share):
        orders = self.exchange.open_orders
        self.exchange.match(orders[which % len(orders)], share)

    @rule()
    def balances_are_read(self):
        self.feed(self.exchange.account())

    @rule()
    def orders_are_reconciled(self):
        for question in self.trader.unsettled():
            if not any(c.client_order_id == question.client_order_id for c in self.exchange.wire):
                self.feed(self.exchange.answer(question.client_order_id))

    @rule(arrived=st.booleans())
    def the_process_is_killed(self, arrived):
        self.die_and_return(arrived)

    @rule(desired=st.sampled_from(list(DesiredState)), halted=st.booleans(), close=st.booleans(), cut=CUT)
    def people_change_their_mind(self, desired, halted, close, cut):
        self.control = ControlChanged(desired=desired, halted=halted, close_positions=halted and close)
        self.feed(self.control, cut)

    @rule(which=st.integers(0, MOST_POSITIONS), verb=st.sampled_from(["close_positions", "close_position"]), cut=CUT)
    def people_want_positions_closed(self, which, verb, cut):
        keys = [*self.trader.orders.positions, None]
        number = 1 + max([self.memory.commands_done, *(c.number for c in self.commands)])
        key = keys[which % len(keys)] if verb == "close_position" else None
        self.commands.append(CommandGiven(number=number, verb=verb, position_key=key))
        self.feed(self.commands[-1], cut)

    @precondition(lambda self: self.commands)
    @rule(cut=CUT)
    def commands_are_polled_again(self, cut):
        self.give_commands(cut)

    def give_commands(self, cut: int | None = None) -> None:
        """The server names each command until it has heard that it is done."""
        done = {f.number for f in self.journal if isinstance(f, CommandDone)}
        self.commands = [c for c in self.commands if c.number not in done]
        for command in self.commands:
            self.feed(command, cut)

    @precondition(lambda self: self.control != RUN)
    @rule()
    def people_let_it_run(self):
        self.control = RUN
        self.feed(RUN)

    @rule(
        stop=st.sampled_from([0.005, 0.02, None]),
        holding=st.sampled_from([10, 40, None]),
        on_stop=st.sampled_from(["close", "hold"]),
        cut=CUT,
    )
    def the_config_changes(self, stop, holding, on_stop, cut):
        changes = {"stop_loss_pct": stop, "holding_time": holding, "on_stop": on_stop}
        self.change_config(changes, cut)

    def change_config(self, changes: dict[str, Any], cut: int | None = None) -> None:
        self.version += 1
        self.config = a_config(**(self.config.model_dump() | changes))
        self.feed(ConfigChanged(version=self.version, config=self.config), cut)

    # --- what always holds -----------------------------------------------------------------------------------------

    @invariant()
    def there_are_never_too_many_positions(self):
        assert len(self.trader.orders.positions) <= MOST_POSITIONS

    @invariant()
    def what_is_to_be_closed_is_being_sold_until_it_is_gone(self):
        done = {f.number for f in self.journal if isinstance(f, CommandDone)}
        waiting = [c for c in self.commands if c.number not in done]
        for position in self.trader.orders.positions.values():
            wanted = any(c.verb == "close_positions" or c.position_key == position.position_key for c in waiting)
            assert position.exiting or not wanted
        if waiting:
            assert self.trader.entry_hold is not None

    @invariant()
    def the_kill_switch_that_closes_leaves_no_position_alone(self):
        if self.control.close_positions:
            assert all(p.exiting for p in self.trader.orders.positions.values())

    @invariant()
    def stopping_with_close_leaves_no_position_alone(self):
        if self.control.desired is DesiredState.STOPPED and self.config.on_stop == "close":
            assert all(p.exiting for p in self.trader.orders.positions.values())

    @invariant()
    def the_journal_is_the_memory(self):
        remembered, now = self.memory, self.trader.snapshot()
        assert _lasting(remembered) == _lasting(now)
        assert _today(remembered.counters, self.trader.now_ms) == _today(now.counters, self.trader.now_ms)

    # --- how it ends -----------------------------------------------------------------------------------------------

    def teardown(self):
        if not hasattr(self, "trader"):
            return
        self.control = ControlChanged(desired=DesiredState.STOPPED)
        self.feed(self.control)
        self.change_config({"on_stop": "close"})
        for _ in range(400):
            self.settle_down()
            if self.trader.is_flat and not self.exchange.wire and not self.exchange.said:
                break
        assert self.trader.is_flat
        self.give_commands()
        assert not self.commands or self.memory.commands_done == self.commands[-1].number
        self.check_the_books()

    def settle_down(self) -> None:
        exchange = self.exchange
        for _ in range(1000):
            if not (exchange.wire or exchange.said):
                break
            if exchange.wire:
                exchange.take(0, "arrives", Decimal(1))
            if exchange.said:
                self.feed(exchange.heard(0, False))
        assert exchange.wire == exchange.said == [], "they talk for ever"
        self.orders_are_reconciled()
        self.second += 1
        exchange.now_ms = at(self.second) - 400
        self.feed(a_candle(self.second, float(exchange.price)))

    def check_the_books(self) -> None:
        exchange = self.exchange
        done = {f.position_key: f for f in self.journal if isinstance(f, Position)}.values()
        closed = [p for p in done if p.status is PositionState.CLOSED]
        assert all(not p.is_open for p in done)
        pnl = sum((p.pnl for p in closed if p.pnl is not None), Decimal(0))
        dust = sum((p.dust_quantity for p in closed), Decimal(0))
        dust_cost = sum((p.dust_cost for p in closed), Decimal(0))
        assert pnl == exchange.quote - 10_000 + dust_cost
        assert dust == exchange.base - 5
        assert exchange.open_orders == []
        told = {(f.order_id, f.trade_id): f for f in self.journal if isinstance(f, FillBooked)}
        true = {(o.number, t.trade_id): (name, t) for name, o in exchange.book.items() for t in o.trades}
        assert told.keys() == true.keys()
        for key, (name, trade) in true.items():
            fill = told[key]
            assert (fill.client_order_id, fill.price, fill.quantity) == (name, trade.price, trade.quantity)
            assert (fill.fee, fill.fee_asset, fill.time_ms) == (trade.fee, trade.fee_asset, trade.time_ms)
        counters = self.trader.orders.counters
        assert (counters.trades, counters.pnl, counters.day_pnl) == (len(closed), pnl, pnl)
        assert (counters.dust_quantity, counters.dust_cost) == (dust, dust_cost)
        assert not [f for f in self.journal if f.type == "alert" and getattr(f, "kind", "") == "stray_fill"]


def _lasting(memory: Snapshot) -> dict[int, Position]:
    """The positions but for which cancels were asked for: a new run asks again."""
    return {
        p.position_key: replace(p, legs=[replace(leg, cancel_requested_ms=None) for leg in p.legs])
        for p in memory.positions
    }


def _today(counters: Counters, now_ms: int) -> Counters:
    copy = replace(counters)
    roll_day(copy, now_ms)
    return copy


TestTraderAtAnExchange = TraderAtAnExchange.TestCase
TestTraderAtAnExchange.settings = settings(
    max_examples=250, stateful_step_count=60, suppress_health_check=list(HealthCheck)
)
