"""What a customer of the exchange may do next, drawn by hypothesis: mostly sound, often hopeless, sometimes spoilt.

Values that depend on the state of things (a price near the market, the id of an order) stand here as what is meant,
and become texts only where the step is taken, so that a step can be drawn, printed and simplified by itself. The
simplest of all is a ping.
"""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import strategies as st

from tests.simulator.fuzz.house import KEYS, NAMES, POOR, READER, RICH, SAVER


class Near(NamedTuple):
    """A price that many hundred-thousandths above the last one."""

    e5: int


class Worth(NamedTuple):
    """A quantity worth about so many of the quote."""

    quote: int


class Mine(NamedTuple):
    """The id of one of the customer's orders, the latest first."""

    back: int


class MyList(NamedTuple):
    """The id of one of the customer's order lists."""

    back: int


class Theirs(NamedTuple):
    """The id of another customer's order."""

    back: int


class Ago(NamedTuple):
    """A time."""

    ms: int


Value = str | Near | Worth | Mine | MyList | Theirs | Ago
Params = tuple[tuple[str, Value], ...]


class Spoil(NamedTuple):
    """What is wrong with a request: *how*, at which parameter (counted around), and with what instead."""

    how: str
    at: int = 0
    text: str = ""


class Step(NamedTuple):
    """After *wait_ms*, *who* sends a request, of whose parameters the first *in_body* go into the body."""

    wait_ms: int
    who: str
    method: str
    path: str
    params: Params
    in_body: int
    spoil: Spoil | None


class Fault(NamedTuple):
    """After *wait_ms*, something is done to the exchange from outside; ``None`` ends all that lasts."""

    wait_ms: int
    body: dict[str, object] | None


class Sequence(list[Step | Fault]):
    """Steps, of which those that do nothing are not printed."""

    def __repr__(self) -> str:
        return "".join(f"\n  {number}: {step}" for number, step in enumerate(self) if step != IDLE)


IDLE = Step(0, RICH, "GET", "ping", (), 0, None)
RUBBISH = (
    "", "0", "-1", "1e5", "1e-05", "NaN", "Infinity", "9" * 20, "9" * 21, "9" * 400, "0." + "0" * 19 + "1",
    "1.123456789", "18446744073709551616", "9223372036854775808", "99999999999999", "1_000", "+1", " 1", "1 ", "1\n",
    "0x10", "１", "٣", "²", "'; DROP TABLE orders; --", "\x00", "BTCUSDT\x00", "\n", "é", "\U0001f4a9", "%00", "%",
    "&=", "null", "true", "True", "[]", "[1]", "{}", '["BTCUSDT"]', '["BTCUSDT","BTCUSDT"]', '["BTCUSDT",5]', "[" * 2000,
    '{"a":' * 1000, "BTCUSDT", "btcusdt", "LTCUSDT", "ETHBTC", "BUY", "MARKET", "GTC", "GTX", "1s", "1M", "7d",
    "-12:00", "+14:00", "../../etc/passwd", "<script>", "x" * 36, "x" * 37, "undefined", "-0", "0.0", ".5", "5.",
)  # fmt: skip
TAILS = ("&", "&&=&", "&=1", "&%zz=1", "&a%00b=1", "&%ED%A0%80=1", "&x", "#", "?", "&é=1", "\udcff", "&x=\udc80", ";a=1")
HOWS = (
    "left out", "emptied", "replaced", "replaced", "replaced", "doubled", "unknown", "tail", "unsigned", "signature",
    "key", "no key", "short key", "another's key", "stale", "future", "recvWindow", "timestamp",
)  # fmt: skip
FILTERS = (
    ("min_notional", "5"), ("min_notional", "50"), ("min_notional", "0"), ("max_notional", "0"),
    ("max_notional", "9000000"), ("tick_size", "0.01"), ("tick_size", "0.5"), ("step_size", "0.001"),
    ("min_qty", "0.001"), ("max_qty", "0"), ("max_qty", "9000"), ("max_market_qty", "0"), ("max_market_qty", "0.5"),
    ("max_market_qty", "100"), ("max_position", "1"), ("max_position", "0"), ("max_num_orders", "3"),
    ("max_num_orders", "200"), ("max_num_algo_orders", "1"), ("max_num_algo_orders", "5"),
    ("max_num_order_lists", "1"), ("max_num_order_lists", "20"), ("maker_fee", "0"), ("maker_fee", "0.001"),
    ("taker_fee", "0.001"), ("taker_fee", "0.25"), ("taker_fee", "1"), ("taker_fee", "7"), ("maker_fee", "1.5"),
    ("multiplier_up", "1.0003"), ("multiplier_up", "5"), ("multiplier_down", "0.9997"), ("multiplier_down", "0.2"),
    ("max_price", "0"), ("max_price", "1000000"), ("min_price", "0"), ("tick_size", "-1"), ("step_size", "0.00000001"),
    ("tick_size", "999999999999999"),
)  # fmt: skip
AMOUNTS = ("1", "-1", "0.00000001", "-0.05", "300", "-300", "0", "12345678.9", "-999999999999999")

_symbols = st.sampled_from(("BTCUSDT", *NAMES))
_sides = st.sampled_from(("BUY", "SELL"))
_kinds = st.sampled_from(
    ("LIMIT", "LIMIT", "LIMIT", "MARKET", "MARKET", "LIMIT_MAKER", "STOP_LOSS", "STOP_LOSS_LIMIT", "TAKE_PROFIT",
     "TAKE_PROFIT_LIMIT")
)  # fmt: skip
_tifs = st.sampled_from(("GTC", "GTC", "IOC", "FOK"))
_worth = st.sampled_from((20, 6, 200, 2000, 30_000, 4, 1, 400_000)).map(Worth)
_away = st.integers(-80, 80)
_far = st.sampled_from((-90_000, -30_000, 30_000, 600_000)).map(Near)
_near = st.one_of(*[_away.map(Near)] * 7, _far)
_ids = st.sampled_from(("", "", "", "c1", "c2", "c3", "c4"))
_back = st.integers(0, 7)
_who = st.sampled_from((RICH, RICH, SAVER, SAVER, POOR, RICH, SAVER, READER))
_waits = st.sampled_from((0, 0, 0, 40, 300, 1000, 2500, 6000, 20_000, 90_000))
_forms = st.sampled_from(("", "", "ACK", "RESULT", "FULL"))
_stp = st.sampled_from(("", "", "EXPIRE_TAKER", "EXPIRE_MAKER", "EXPIRE_BOTH", "DECREMENT", "DECREMENT", "NONE"))
_limits = st.sampled_from(("", "", "1", "7", "1000", "5001"))
_rubbish = st.one_of(*[st.sampled_from(RUBBISH)] * 4, st.text(max_size=12))
_waits_long = st.sampled_from((0, 1000, 60_000, 3_600_000, 86_400_000, 200_000_000)).map(Ago)


@st.composite
def _order(draw: st.DrawFn) -> dict[str, Value]:
    kind, side = draw(_kinds), draw(_sides)
    params: dict[str, Value] = {"symbol": draw(_symbols), "side": side, "type": kind}
    if kind == "MARKET" and draw(st.booleans()):
        params["quoteOrderQty"] = draw(st.sampled_from(("20", "5", "777.77", "0.1", "40000")))
    else:
        params["quantity"] = draw(_worth)
    if kind == "LIMIT" or kind.endswith("_LIMIT"):
        params["timeInForce"] = draw(_tifs)
    if "LIMIT" in kind:
        params["price"] = draw(_near)
    if kind.startswith(("STOP", "TAKE")):
        rises = kind.startswith("STOP") == (side == "BUY")
        params["stopPrice"] = Near(draw(st.integers(-4, 60)) * (1 if rises else -1))
    params |= _said(newClientOrderId=draw(_ids), newOrderRespType=draw(_forms), selfTradePreventionMode=draw(_stp))
    return params


@st.composite
def _replace(draw: st.DrawFn) -> dict[str, Value]:
    params = draw(_order())
    params["cancelReplaceMode"] = draw(st.sampled_from(("STOP_ON_FAILURE", "ALLOW_FAILURE")))
    params |= _said(
        cancelOrderId=draw(_mine_or_theirs), cancelRestrictions=draw(_restrictions),
        orderRateLimitExceededMode=draw(st.sampled_from(("", "DO_NOTHING", "CANCEL_ONLY"))),
    )  # fmt: skip
    return params


@st.composite
def _pair(draw: st.DrawFn) -> dict[str, Value]:
    side, gap = draw(_sides), draw(st.integers(-1, 50))
    params: dict[str, Value] = {"symbol": draw(_symbols), "side": side, "quantity": draw(_worth)}
    gains, stops = ("above", "below") if side == "SELL" else ("below", "above")
    for leg, kinds in (
        (gains, ("LIMIT_MAKER", "LIMIT_MAKER", "TAKE_PROFIT", "TAKE_PROFIT_LIMIT")),
        (stops, ("STOP_LOSS", "STOP_LOSS_LIMIT")),
    ):
        way = 1 if leg == "above" else -1
        kind = params[f"{leg}Type"] = draw(st.sampled_from(kinds))
        at = Near(way * (gap + draw(st.integers(1, 40))))
        if kind != "LIMIT_MAKER":
            params[f"{leg}StopPrice"] = at
        if "LIMIT" in str(kind):
            params[f"{leg}Price"] = at if kind == "LIMIT_MAKER" else draw(_near)
        if str(kind).endswith("_LIMIT"):
            params[f"{leg}TimeInForce"] = draw(_tifs)
    params |= _said(listClientOrderId=draw(_ids), newOrderRespType=draw(_forms), selfTradePreventionMode=draw(_stp))
    return params


@st.composite
def _old_pair(draw: st.DrawFn) -> dict[str, Value]:
    side, up, down = draw(_sides), Near(draw(st.integers(-2, 60))), Near(-draw(st.integers(-2, 60)))
    limit, stop = (up, down) if side == "SELL" else (down, up)
    params: dict[str, Value] = {
        "symbol": draw(_symbols), "side": side, "quantity": draw(_worth), "price": limit, "stopPrice": stop,
    }  # fmt: skip
    if draw(st.booleans()):
        params |= {"stopLimitPrice": stop, "stopLimitTimeInForce": draw(_tifs)}
    return params | _said(newOrderRespType=draw(_forms))


def _said(**params: Value) -> dict[str, Value]:
    """Those that are not empty."""
    return {name: value for name, value in params.items() if value != ""}


def _sometimes(**strategies: st.SearchStrategy[Value]) -> st.SearchStrategy[dict[str, Value]]:
    """Each parameter, where its text is not empty."""
    return st.fixed_dictionaries(strategies).map(lambda params: _said(**params))


_mine: st.SearchStrategy[Value] = _back.map(Mine)
_mine_or_theirs: st.SearchStrategy[Value] = st.one_of(_mine, _mine, _mine, _mine, _back.map(Theirs))
_my_list: st.SearchStrategy[Value] = _back.map(MyList)
_restrictions = st.sampled_from(("", "", "", "ONLY_NEW", "ONLY_PARTIALLY_FILLED"))
_or_not = st.sampled_from(("", *NAMES))
_none: st.SearchStrategy[dict[str, Value]] = st.just({})
_some = {"symbol": _or_not, "symbolStatus": st.sampled_from(("", "", "TRADING", "HALT"))}
_mini = st.sampled_from(("", "MINI", "FULL"))
_start = st.one_of(st.just(""), _waits_long)
_zone = st.sampled_from(("", "0", "-5", "+05:45"))
_candles = _sometimes(
    symbol=_symbols, interval=st.sampled_from(("1s", "1m", "15m", "1h", "1d", "1M")), startTime=_start, endTime=_start,
    limit=st.sampled_from(("", "1", "7", "60")), timeZone=_zone,
)  # fmt: skip
_by_id = _sometimes(symbol=_symbols, orderId=_mine_or_theirs)
_by_name = _sometimes(symbol=_symbols, origClientOrderId=st.sampled_from(("c1", "c2", "c3", "c4")))
_refused = st.one_of(_order(), _none)

Call = tuple[str, str, st.SearchStrategy[dict[str, Value]]]
CALLS: tuple[tuple[int, Call], ...] = (
    (2, ("GET", "ping", _none)),
    (2, ("GET", "time", _none)),
    (3, ("GET", "exchangeInfo", _sometimes(symbol=_or_not, permissions=st.sampled_from(("", "", "SPOT", '["SPOT"]'))))),
    (4, ("GET", "depth", _sometimes(symbol=_symbols, limit=_limits))),
    (2, ("GET", "trades", _sometimes(symbol=_symbols, limit=_limits))),
    (2, ("GET", "historicalTrades", _sometimes(symbol=_symbols, limit=_limits, fromId=st.just("28276300800")))),
    (2, ("GET", "aggTrades", _sometimes(symbol=_symbols, limit=_limits, startTime=_start, endTime=_start))),
    (3, ("GET", "klines", _candles)),
    (2, ("GET", "uiKlines", _candles)),
    (2, ("GET", "avgPrice", _sometimes(symbol=_symbols))),
    (2, ("GET", "referencePrice", _sometimes(symbol=_symbols))),
    (2, ("GET", "ticker/24hr", _sometimes(**_some, type=_mini))),
    (2, ("GET", "ticker", _sometimes(symbol=_symbols, windowSize=st.sampled_from(("", "1m", "4h", "7d")), type=_mini))),
    (2, ("GET", "ticker/tradingDay", _sometimes(symbols=st.just('["BTCUSDT"]'), timeZone=_zone, type=_mini))),
    (2, ("GET", "ticker/price", _sometimes(**_some))),
    (2, ("GET", "ticker/bookTicker", _sometimes(**_some))),
    (4, ("GET", "account", _sometimes(omitZeroBalances=st.sampled_from(("", "true", "false"))))),
    (2, ("GET", "account/commission", _sometimes(symbol=_symbols))),
    (2, ("GET", "rateLimit/order", _none)),
    (90, ("POST", "order", _order())),
    (6, ("POST", "order/test", _order())),
    (16, ("POST", "order/cancelReplace", _replace())),
    (6, ("GET", "order", st.one_of(_by_id, _by_name))),
    (14, ("DELETE", "order", st.one_of(_by_id, _by_id, _by_name))),
    (4, ("GET", "openOrders", _sometimes(symbol=_or_not))),
    (3, ("DELETE", "openOrders", _sometimes(symbol=_symbols))),
    (4, ("GET", "allOrders", _sometimes(symbol=_symbols, limit=_limits, startTime=_start, endTime=_start))),
    (6, ("GET", "myTrades", _sometimes(symbol=_symbols, limit=_limits, startTime=_start))),
    (3, ("GET", "myPreventedMatches", _sometimes(symbol=_symbols, orderId=_mine))),
    (20, ("POST", "orderList/oco", _pair())),
    (8, ("POST", "order/oco", _old_pair())),
    (4, ("DELETE", "orderList", _sometimes(symbol=_symbols, orderListId=_my_list))),
    (3, ("GET", "orderList", _sometimes(orderListId=_my_list))),
    (3, ("GET", "openOrderList", _none)),
    (3, ("GET", "allOrderList", _sometimes(limit=_limits, startTime=_start))),
    (1, ("POST", "orderList/oto", _refused)),
    (1, ("POST", "orderList/otoco", _refused)),
    (1, ("POST", "orderList/opo", _refused)),
    (1, ("POST", "orderList/opoco", _refused)),
    (1, ("PUT", "order/amend/keepPriority", _refused)),
    (1, ("POST", "sor/order", _refused)),
    (1, ("POST", "sor/order/test", _refused)),
)
FAULT = -1
_calls = st.sampled_from([n for n, (weight, _) in enumerate(CALLS) for _ in range(weight)] + [FAULT] * 12)
_spoils = st.builds(Spoil, st.sampled_from(HOWS), st.integers(0, 9), _rubbish)
_is_spoilt = st.integers(0, 9).map(lambda number: number >= 7)
_statuses = st.sampled_from(("HALT", "BREAK", "CANCEL_ONLY"))
_faults = st.one_of(
    st.none(),
    st.none(),
    st.builds(lambda symbol, status: {"kind": "halt", "symbol": symbol, "status": status}, _symbols, _statuses),
    st.builds(lambda symbol: {"kind": "halt", "symbol": symbol, "seconds": 5}, _symbols),
    st.builds(lambda symbol, one: {"kind": "filters", "symbol": symbol, one[0]: one[1]}, _symbols,
              st.sampled_from(FILTERS)),
    st.builds(
        lambda who, asset, amount: {"kind": "balance", "api_key": KEYS[who], "asset": asset, "amount": amount},
        _who, st.sampled_from(("USDT", "BTC", "BNB", "EUR")), st.sampled_from(AMOUNTS),
    ),
)  # fmt: skip


@st.composite
def steps(draw: st.DrawFn) -> Step | Fault:
    """One step."""
    number, wait_ms = draw(_calls), draw(_waits)
    if number == FAULT:
        return Fault(wait_ms, draw(_faults))
    method, path, params = CALLS[number][1]
    spoil = draw(_spoils) if draw(_is_spoilt) else None
    in_body = draw(st.sampled_from((0, 0, 0, 2, 9))) if method != "GET" else 0
    return Step(wait_ms, draw(_who), method, path, tuple(draw(params).items()), in_body, spoil)
