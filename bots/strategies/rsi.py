"""Buy when the RSI says oversold, sell in profit when it says overbought."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from pydantic import ValidationInfo, field_validator

from bots.core import indicators
from bots.core.candles import Candle, Window
from bots.core.predictor import Predictor
from bots.core.strategy import Action, Decision
from bots.strategies.registry import strategy
from shared.config import Applies, Number, Ratio, TradingConfig, Whole, setting
from shared.intervals import INTERVAL_MS
from shared.strategy_spec import StrategyDefinition


class RSIConfig(TradingConfig):
    """What the RSI strategy can be told beside the common settings."""

    rsi_period: Whole = setting(
        14,
        ge=2,
        le=100,
        unit="bars",
        group="signal",
        applies=Applies.RESTART,
        help="How many bars the RSI looks back. Shorter reacts faster and to more noise.",
    )
    buy_below: Number = setting(
        30,
        ge=0,
        le=100,
        unit="RSI",
        group="signal",
        applies=Applies.NOW,
        help="Enter when the RSI is below this (oversold).",
    )
    sell_above: Number = setting(
        70,
        ge=0,
        le=100,
        unit="RSI",
        group="signal",
        applies=Applies.NOW,
        help="Sell when the RSI is above this (overbought) and the position is in profit.",
    )
    min_profit_pct: Ratio = setting(
        Decimal(0),
        ge=0,
        le=1,
        unit="fraction",
        group="signal",
        applies=Applies.NOW,
        help="How far in profit a position must be for the RSI to sell it. Set it above the fees of both sides.",
    )

    @field_validator("sell_above")
    @classmethod
    def _above_buy_below(cls, sell_above: float, info: ValidationInfo) -> float:
        buy_below = info.data.get("buy_below")
        if buy_below is not None and sell_above <= buy_below:
            raise ValueError(f"must be above buy_below, which is {buy_below:g}: raise sell_above or lower buy_below")
        return sell_above


DEFINITION: Final = StrategyDefinition(
    id="rsi",
    name="RSI",
    description=(
        "Buys when the Relative Strength Index of the chosen bars falls below one level and sells what is in profit "
        "when it rises above another. Profit target, stop loss and holding time apply as well."
    ),
    risk_note=(
        "In a steady fall the RSI stays low for long: the strategy then buys into the fall again and again, and the "
        "sell level never sells at a loss. Set a stop loss and a cooldown. On one-second bars most signals are noise."
    ),
    config=RSIConfig,
    intervals=tuple(INTERVAL_MS),
)


@strategy(DEFINITION)
class RSIStrategy:
    """Decides on every bar."""

    def __init__(self, interval_ms: int, config: RSIConfig, model: Predictor | None = None) -> None:
        self._rsi = indicators.rsi(config.rsi_period, interval_ms)
        self.bars_needed = self._rsi.bars_needed
        self._period = config.rsi_period
        self._values: dict[str, float] = {}

    def on_candle(self, bar: Candle, window: Window, config: RSIConfig) -> Decision | None:
        """Enter below one level, exit above the other."""
        rsi = self._rsi.update(bar)
        if rsi is None:
            return None
        self._values = {"rsi": rsi, "close": bar.close}
        if rsi > config.sell_above:
            return Decision(Action.EXIT, rsi, config.sell_above, config.min_profit_pct)
        return Decision(Action.ENTER if rsi < config.buy_below else Action.NONE, rsi, config.buy_below)

    def entry_logic(self, config: RSIConfig) -> str:
        """When it enters, for people."""
        return f"{DEFINITION.id} RSI({self._period}) < {config.buy_below:g}"

    def explain(self) -> tuple[dict[str, float], str | None]:
        """The RSI and close of the last decision."""
        return self._values, None
