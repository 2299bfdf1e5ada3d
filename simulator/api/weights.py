"""What a call costs: request weights that depend on the parameters.

Pure, and never raises: a call is charged before its parameters are checked, so what cannot be read costs the least.
"""

from __future__ import annotations

import json

from simulator.api.call import Weight
from simulator.core.rules import ApiError
from simulator.doors.params import Params

DEPTH_STEPS = ((100, 5), (500, 25), (1000, 50))
DEPTH_MAX = 250


def by_symbol(one: int, more: int) -> Weight:
    """*one* with ``symbol``, *more* without."""
    return lambda params: one if "symbol" in params else more


def per_symbol(each: int, cap: int) -> Weight:
    """*each* for every symbol asked for, up to *cap*."""
    return lambda params: min(cap, each * max(1, _count(params)))


def day_ticker(params: Params) -> int:
    """ticker/24hr: by the number of symbols; all of them when none is named."""
    if "symbol" not in params and "symbols" not in params:
        return 80
    count = _count(params)
    return 2 if count <= 20 else 40 if count <= 100 else 80


def depth(params: Params) -> int:
    """depth: by the number of levels."""
    try:
        limit = params.limit(100, 5000)
    except ApiError:
        limit = 1
    return next((weight for upto, weight in DEPTH_STEPS if limit <= upto), DEPTH_MAX)


def order_test(params: Params) -> int:
    """order/test: more where commission rates are asked for."""
    try:
        return 20 if params.flag("computeCommissionRates") else 1
    except ApiError:
        return 1


def my_trades(params: Params) -> int:
    """myTrades: less of one order."""
    return 5 if "orderId" in params else 20


def _count(params: Params) -> int:
    try:
        names = json.loads(params.text("symbols") or "[]")
    except (ApiError, ValueError, RecursionError):
        return 0
    return len(names) if isinstance(names, list) else 0
