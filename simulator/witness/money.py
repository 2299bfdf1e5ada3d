"""Conservation: what each account and the whole exchange must hold, after what came in, was traded and was charged.

Expects the caller's exact decimal context. Leaves out whether the trades themselves are sound.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from simulator.witness.reading import Account, Fill, Ledger, Money

ZERO = Decimal(0)
Pairs = dict[str, tuple[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """One asset of the whole exchange: what came in, and where it is now. *held* is free and locked together."""

    deposits: Decimal
    transfers: Decimal
    held: Decimal
    fees: Decimal
    market: Decimal

    @property
    def missing(self) -> Decimal:
        """What came in and is nowhere now; negative: made out of nothing."""
        return self.deposits + self.transfers - self.held - self.fees - self.market


@dataclass(slots=True)
class _Flows:
    """What the fills of one account moved in one asset."""

    gained: Decimal = ZERO
    paid: Decimal = ZERO
    fees: Decimal = ZERO


def money_violations(ledger: Ledger) -> Iterator[str]:
    """Sentences about accounts, then about the exchange."""
    keys = Counter(account.api_key for account in ledger.accounts)
    for account in ledger.accounts:
        if keys[account.api_key] > 1:
            yield f"Account {account.label}: {keys[account.api_key]} accounts have its key."
    pairs = _pairs(ledger)
    for account in ledger.accounts:
        yield from _account(account, pairs)
    yield from _exchange(ledger, pairs)


def tallies(ledger: Ledger) -> dict[str, Tally]:
    """Each asset that the ledger names, by name."""
    deposits = _added(account.deposits for account in ledger.accounts)
    transfers = _added(account.transfers for account in ledger.accounts)
    held = _added({a: sum(parts, ZERO) for a, parts in account.balances.items()} for account in ledger.accounts)
    assets = sorted({*deposits, *transfers, *held, *ledger.fees, *ledger.market})
    return {
        asset: Tally(
            deposits=deposits.get(asset, ZERO),
            transfers=transfers.get(asset, ZERO),
            held=held.get(asset, ZERO),
            fees=ledger.fees.get(asset, ZERO),
            market=ledger.market.get(asset, ZERO),
        )
        for asset in assets
    }


def text(amount: Decimal) -> str:
    """*amount* without needless zeros and never in powers of ten."""
    plain = f"{amount:f}"
    return plain.rstrip("0").rstrip(".") if "." in plain else plain


def _account(account: Account, pairs: Pairs) -> Iterator[str]:
    flows = _flows(account.fills, pairs)
    locks = _locks(account)
    for asset in sorted({*account.balances, *account.deposits, *account.transfers, *flows, *locks}):
        where = f"Account {account.label}, {asset}"
        free, locked = account.balances.get(asset, (ZERO, ZERO))
        if free < 0 or locked < 0:
            yield f"{where}: {text(free)} free and {text(locked)} locked, but neither may be below 0."
        into, moved, flow = account.deposits.get(asset, ZERO), account.transfers.get(asset, ZERO), flows[asset]
        due = into + moved + flow.gained - flow.paid - flow.fees
        if due != free + locked:
            yield (
                f"{where}: {text(into)} deposited + {text(moved)} transferred + {text(flow.gained)} received "
                f"− {text(flow.paid)} paid − {text(flow.fees)} fees = {text(due)}, "
                f"but {text(free)} free + {text(locked)} locked = {text(free + locked)}."
            )
        if locks[asset] != locked:
            yield f"{where}: {text(locked)} locked, but open orders and lists lock {text(locks[asset])}."


def _exchange(ledger: Ledger, pairs: Pairs) -> Iterator[str]:
    for asset, tally in tallies(ledger).items():
        if tally.missing:
            came, there = tally.deposits + tally.transfers, tally.held + tally.fees + tally.market
            yield (
                f"Exchange, {asset}: {text(tally.deposits)} deposited + {text(tally.transfers)} transferred "
                f"= {text(came)}, but {text(tally.held)} in accounts + {text(tally.fees)} fees "
                f"+ {text(tally.market)} at the market = {text(there)}: "
                f"{text(abs(tally.missing))} {'lost' if tally.missing > 0 else 'made out of nothing'}."
            )
    fills = [fill for account in ledger.accounts for fill in account.fills]
    flows = _flows(fills, pairs)
    against_market = _flows([fill for fill in fills if fill.against == 0], pairs)
    for asset in sorted({*flows, *ledger.fees, *ledger.market}):
        taken, charged = ledger.fees.get(asset, ZERO), flows[asset].fees
        if taken != charged:
            yield f"Exchange, {asset}: {text(taken)} fees taken, but the fills were charged {text(charged)}."
        gain, due = ledger.market.get(asset, ZERO), against_market[asset].paid - against_market[asset].gained
        if gain != due:
            yield f"Exchange, {asset}: the market gained {text(gain)}, but by the fills against it {text(due)}."


def _pairs(ledger: Ledger) -> Pairs:
    """Base and quote of each symbol, as its first order says."""
    pairs: Pairs = {}
    for account in ledger.accounts:
        for order in account.orders:
            pairs.setdefault(order.symbol, (order.base, order.quote))
    return pairs


def _flows(fills: tuple[Fill, ...] | list[Fill], pairs: Pairs) -> defaultdict[str, _Flows]:
    """By asset. The fill of a symbol without any order moves nothing here; the trades are where that is told."""
    flows: defaultdict[str, _Flows] = defaultdict(_Flows)
    for fill in fills:
        flows[fill.fee_asset].fees += fill.fee
        if fill.symbol in pairs:
            base, quote = pairs[fill.symbol]
            got, gave = (base, quote) if fill.side == "BUY" else (quote, base)
            amounts = {base: fill.qty, quote: fill.price * fill.qty}
            flows[got].gained += amounts[got]
            flows[gave].paid += amounts[gave]
    return flows


def _locks(account: Account) -> defaultdict[str, Decimal]:
    locks: defaultdict[str, Decimal] = defaultdict(Decimal)
    for order in account.orders:
        if order.is_open:
            locks[order.locked_asset] += order.locked
    for group in account.lists:
        if group.status == "EXECUTING":
            locks[group.locked_asset] += group.locked
    return locks


def _added(parts: Iterator[Money]) -> Money:
    total: defaultdict[str, Decimal] = defaultdict(Decimal)
    for amounts in parts:
        for asset, amount in amounts.items():
            total[asset] += amount
    return dict(total)
