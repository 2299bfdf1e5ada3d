"""A verdict in words: a headline, one line per asset, and one sentence per broken identity."""

from __future__ import annotations

from decimal import Decimal

from simulator.witness.check import Verdict

COLUMNS = ("deposits", "transfers", "held", "fees", "market")
HEADS = ("deposited", "transferred", "in accounts", "fees", "at the market")
PLACES = 8


def told(source: str, verdict: Verdict) -> str:
    """The whole verdict, without a newline at its end."""
    looked_at = ", ".join((
        _counted(verdict.accounts, "account"),
        f"{_counted(verdict.orders, 'order')} ({verdict.open_orders:,} open)",
        _counted(verdict.fills, "fill"),
        _counted(len(verdict.assets), "asset"),
    ))  # fmt: skip
    lines = [f"{source}: {looked_at}.", *_table(verdict)]
    if verdict.holds:
        lines.append("Every identity holds: no coin was made, and none was lost.")
    else:
        count = len(verdict.violations)
        lines.append(f"{_counted(count, 'identity', 'identities')} {'does' if count == 1 else 'do'} not hold:")
        lines += [f"  {sentence}" for sentence in verdict.violations]
    return "\n".join(lines)


def _table(verdict: Verdict) -> list[str]:
    if not verdict.assets:
        return []
    rows = [["", *HEADS]]
    for asset, tally in verdict.assets.items():
        rows.append([asset, *(_padded(getattr(tally, column)) for column in COLUMNS)])
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    lines = [
        "  ".join(["", row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]
    marks = [""] + ["ok" if not tally.missing else _off(tally.missing) for tally in verdict.assets.values()]
    return ["", *(f"{line}  {mark}".rstrip() for line, mark in zip(lines, marks, strict=True)), ""]


def _off(missing: Decimal) -> str:
    return f"{_padded(abs(missing))} {'lost' if missing > 0 else 'made'}"


def _padded(amount: Decimal) -> str:
    places = max(PLACES, -int(amount.as_tuple().exponent))
    return f"{amount:,.{places}f}"


def _counted(number: int, one: str, many: str = "") -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"
