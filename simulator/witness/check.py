"""The proof: every identity that a ledger must satisfy, and one sentence for each that it does not.

Pure, and exact: figures are decimals that are never rounded. Knows the ledger alone and shares no code with the
exchange that wrote it, so a mistake there cannot hide here. Money is proved in ``money``, the lives of orders in
``lives``, the two sides of trades in ``trades``. A ledger of one account (``?api_key=``) proves nothing: the totals
need them all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Context, DivisionByZero, Inexact, InvalidOperation, Overflow, localcontext

from simulator.witness.lives import life_violations
from simulator.witness.money import Tally, money_violations, tallies
from simulator.witness.reading import read
from simulator.witness.trades import trade_violations

# Two amounts of 50 digits multiply to 100, and a billion of those add 9: nothing is rounded, and if it were, it raises.
EXACT = Context(prec=200, traps=[Inexact, InvalidOperation, DivisionByZero, Overflow])


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What was looked at, and what is wrong with it: nothing, when `violations` is empty."""

    accounts: int
    orders: int
    open_orders: int
    fills: int
    assets: Mapping[str, Tally]
    violations: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Every identity was found true."""
        return not self.violations


def violations(ledger: Mapping[str, object]) -> list[str]:
    """One sentence for each identity that *ledger* (a whole one, as JSON) breaks. Raises `Unreadable`."""
    return list(examine(ledger).violations)


def examine(document: object) -> Verdict:
    """Look at a whole ledger, as it came out of JSON. Raises `Unreadable` when it is none."""
    ledger = read(document)
    with localcontext(EXACT):
        found = [*money_violations(ledger), *life_violations(ledger), *trade_violations(ledger)]
        return Verdict(
            accounts=len(ledger.accounts),
            orders=sum(len(account.orders) for account in ledger.accounts),
            open_orders=sum(order.is_open for account in ledger.accounts for order in account.orders),
            fills=sum(len(account.fills) for account in ledger.accounts),
            assets=tallies(ledger),
            violations=tuple(found),
        )
