"""Buy when a LightGBM model's probability of a profitable move reaches the threshold."""

from __future__ import annotations

from hashlib import blake2b
from struct import pack
from typing import Final

from bots.core.candles import SECOND_MS, WINDOW, Candle, Window
from bots.core.feature_engineering import FEATURES, compute
from bots.core.predictor import Predictor
from bots.core.strategy import Action, Decision
from bots.strategies.registry import strategy
from shared.config import Applies, Number, TradingConfig, Whole, setting
from shared.strategy_spec import StrategyDefinition


class LightGBMConfig(TradingConfig):
    """What the LightGBM scalper can be told beside the common settings."""

    confidence_threshold: Number = setting(
        0.5,
        ge=0,
        le=1,
        unit="probability",
        group="signal",
        applies=Applies.NOW,
        help="Enter when the model's probability of reaching its target is at least this. Higher: fewer, surer trades.",
    )
    model_id: Whole | None = setting(
        None,
        ge=1,
        unit="model",
        group="signal",
        applies=Applies.RESTART,
        help="The model that decides. Its symbol and its target should be this bot's.",
    )
    signal_interval: Whole = setting(
        2,
        ge=1,
        le=3600,
        unit="s",
        group="signal",
        applies=Applies.NOW,
        help="Decide on candles that close at a multiple of this many seconds.",
    )


DEFINITION: Final = StrategyDefinition(
    id="lightgbm_scalper",
    name="LightGBM scalper",
    description=(
        "Reads the last 60 one-second candles every few seconds and asks a trained LightGBM model how probable it is "
        "that the price reaches the model's target before its stop. Enters when that probability is high enough and "
        "leaves by profit target, stop loss or holding time."
    ),
    risk_note=(
        "Aims at very small gains, many times a day: a fee of 0.1 % a side is larger than most targets. A model knows "
        "only the market it was trained on and does not tell when that market has changed: try each one without real "
        "money first, set a stop loss and a daily loss limit, and train anew once its hit rate falls below its "
        "out-of-sample score."
    ),
    config=LightGBMConfig,
    intervals=("1s",),
    needs_model=True,
)


@strategy(DEFINITION)
class LightGBMScalper:
    """Decides each `signal_interval`, once the window is full."""

    bars_needed = WINDOW

    def __init__(self, interval_ms: int, config: LightGBMConfig, model: Predictor) -> None:
        self._probability = model.probability
        self._features: list[float] = []

    def on_candle(self, bar: Candle, window: Window, config: LightGBMConfig) -> Decision | None:
        """A decision if one is due at the end of *bar*."""
        if bar.end_ms % (config.signal_interval * SECOND_MS) or not window.full:
            return None
        self._features = features = compute(window)
        probability = self._probability(features)
        threshold = config.confidence_threshold
        return Decision(Action.ENTER if probability >= threshold else Action.NONE, probability, threshold)

    def entry_logic(self, config: LightGBMConfig) -> str:
        """When it enters, for people."""
        return f"{DEFINITION.id} p >= {config.confidence_threshold:.2f}"

    def explain(self) -> tuple[dict[str, float], str | None]:
        """The features of the last decision, and a digest by which the same features are recognised."""
        features = self._features
        if not features:
            return {}, None
        return dict(zip(FEATURES, features, strict=True)), feature_digest(features)


def feature_digest(features: list[float]) -> str:
    """Sixteen hexadecimal digits over every bit of *features*."""
    return blake2b(pack(f"<{len(features)}d", *features), digest_size=8).hexdigest()
