"""The strategies, one file each. Importing this package registers all of them and loads no numeric library."""

from bots.strategies import lightgbm_scalper, rsi
from bots.strategies.registry import DEFINITIONS, build, strategy

__all__ = ["DEFINITIONS", "build", "lightgbm_scalper", "rsi", "strategy"]
