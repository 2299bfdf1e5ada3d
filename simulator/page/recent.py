"""The last fills of everybody, and how many each account ever had: kept up as they happen, so that a page need not
search a long history for them. Owns nothing that outlives the process."""

from __future__ import annotations

from collections import Counter, deque
from heapq import nlargest

from simulator.core.exchange import Exchange
from simulator.core.orders import Filled, Order, OrderFact
from simulator.venue import Listener

SHOWN = 20


class Recent(Listener):
    """Listener of the venue. *exchange* is what it was restored to."""

    def __init__(self, exchange: Exchange) -> None:
        known = ((order, fill) for order in exchange.orders.values() for fill in order.fills)
        latest = nlargest(SHOWN, known, key=lambda pair: pair[1].trade_id)
        self.fills: deque[tuple[Order, Filled]] = deque(reversed(latest), maxlen=SHOWN)
        self.counts = Counter(
            {key: sum(len(order.fills) for order in orders) for key, orders in exchange.by_account.items()}
        )

    def on_fact(self, fact: OrderFact, order: Order) -> None:
        """Remember a fill."""
        if isinstance(fact, Filled):
            self.fills.append((order, fact))
            self.counts[order.placed.api_key] += 1
