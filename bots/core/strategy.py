"""What a strategy owes the trader: a decision for a closed bar, and the reasons for the last one."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Any, Protocol

from bots.core.candles import Candle, Window


class Action(StrEnum):
    """What a strategy wants."""

    NONE = "none"
    ENTER = "enter"
    EXIT = "exit"


@dataclass(slots=True)
class Decision:
    """One decision. *score* is what was compared with *threshold* (a probability, an indicator's value).

    An EXIT with *min_profit* means only positions whose gain over the entry price is above that fraction; None: all.
    """

    action: Action
    score: float | None = None
    threshold: float | None = None
    min_profit: Decimal | None = None


class Strategy(Protocol):
    """Decides on closed bars. *config* is always the one now in force, of the type that its definition names."""

    bars_needed: int
    """Closed bars of the bot's interval needed before the first decision: the history to load at start."""

    def on_candle(self, bar: Candle, window: Window, config: Any) -> Decision | None:
        """The decision on *bar*; None when none is due or there is too little history.

        *window* already holds the bar's last second. Called for every closed bar, back-filled ones too.
        """

    def entry_logic(self, config: Any) -> str:
        """When it enters, for people: ``lightgbm_scalper p >= 0.40``."""

    def explain(self) -> tuple[dict[str, float], str | None]:
        """The inputs of the last decision by name, and a short digest of its features if it has any."""
