"""What a customer of the exchange may do next: mostly sound, often hopeless, sometimes spoilt.

Each step is written in one number, which hypothesis draws: it can leave steps out, by making them 0, and the rest stay
what they were. Values that depend on the state of things (a price near the market, the id of an order) stand here as
what is meant, and become texts only where the step is taken.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import NamedTuple

from tests.simulator.fuzz.house import KEYS, NAMES, POOR, READER, RICH, SAVER


class Near(NamedTuple):
    """A price that many hundred-thousandths above the last one."""

    e5: int


class Meets(NamedTuple):
    """The price of somebody's open order."""

    back: int


class Worth(NamedTuple):
    """A quantity worth about so many of the quote."""

    quote: int


class Everything(NamedTuple):
    """The quantity that takes all of what the customer has free."""


class Open(NamedTuple):
    """The id of one of the customer's open orders, the latest first."""

    back: int


class Mine(NamedTuple):
    """The id of one of the customer's orders, ended or not, the latest first."""

    back: int


class MyList(NamedTuple):
    """The id of one of the customer's order lists, open ones first."""

    back: int


class Theirs(NamedTuple):
    """The id of another customer's order."""

    back: int


class Ago(NamedTuple):
    """A time."""

    ms: int


Value = str | Near | Meets | Worth | Everything | Open | Mine | MyList | Theirs | Ago
Params = dict[str, Value]


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
    params: tuple[tuple[str, Value], ...]
    in_body: int
    spoil: Spoil | None


class Fault(NamedTuple):
    """After *wait_ms*, something is done to the exchange from outside; ``None`` ends all that lasts."""

    wait_ms: int
    body: dict[str, object] | None


IDLE = Step(0, RICH, "GET", "ping", (), 0, None)
RUBBISH = (
    "", "0", "-1", "1e5", "1e-05", "NaN", "Infinity", "9" * 20, "9" * 21, "9" * 400, "0." + "0" * 19 + "1",
    "1.123456789", "18446744073709551616", "9223372036854775808", "99999999999999", "1_000", "+1", " 1", "1 ", "1\n",
    "0x10", "１", "٣", "²", "'; DROP TABLE orders; --", "\x00", "BTCUSDT\x00", "\n", "é", "\U0001f4a9", "%00", "%",
    "&=", "null", "true", "True", "[]", "[1]", "{}", '["BTCUSDT"]', '["BTCUSDT","BTCUSDT"]', '["BTCUSDT",5]',
    "[" * 5000, '{"a":' * 1000, "BTCUSDT", "btcusdt", "LTCUSDT", "ETHBTC", "BUY", "MARKET", "GTC", "GTX", "1s", "8d",
    "-12:00", "+14:00", "../../etc/passwd", "<script>", "x" * 36, "x" * 37, "undefined", "-0", "0.0", ".5", "5.",
)  # fmt: skip
TAILS = ("&", "&&=&", "&=1", "&%zz=1", "&a%00=1", "&%ED%A0%80=1", "&x", "#", "?", "&é=1", "\udcff", "&x=\udc80", ";a")
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

WAITS_MS = (0,) * 18 + (40, 300, 1000, 2500, 6000) * 4 + (20_000, 90_000)
KINDS = (
    "LIMIT", "LIMIT", "LIMIT", "MARKET", "MARKET", "LIMIT_MAKER", "STOP_LOSS", "STOP_LOSS_LIMIT", "TAKE_PROFIT",
    "TAKE_PROFIT_LIMIT",
)  # fmt: skip
STP = ("",) * 20 + ("EXPIRE_TAKER", "EXPIRE_MAKER", "EXPIRE_BOTH", "DECREMENT", "DECREMENT") * 3 + ("NONE",)
AGO_MS = (0, 1000, 60_000, 3_600_000, 86_400_000, 200_000_000)
SPOILT = 0.25


def step_of(number: int) -> Step | Fault:
    """The step that *number* says; 0 is a ping."""
    if not number:
        return IDLE
    chance = Random(number)
    wait_ms, at = chance.choice(WAITS_MS), chance.choice(_WEIGHTED)
    if at == _FAULT:
        return Fault(wait_ms, _fault(chance))
    _, method, path, params_of = CALLS[at]
    params = params_of(chance)
    spoil = None
    if chance.random() < SPOILT:
        text = chance.choice(RUBBISH) if chance.random() < 0.8 else "".join(chr(_character(chance)) for _ in range(6))
        spoil = Spoil(chance.choice(HOWS), chance.randrange(12), text)
    in_body = chance.choice((0, 0, 0, 2, 9)) if method != "GET" else 0
    said = tuple((name, value) for name, value in params.items() if value != "")
    return Step(wait_ms, _who(chance), method, path, said, in_body, spoil)


def _character(chance: Random) -> int:
    """Any but the surrogates, which UTF-8 cannot write."""
    return chance.choice((chance.randrange(0x20), chance.randrange(0x20, 0x7F), chance.randrange(0x80, 0xD800)))


def _who(chance: Random) -> str:
    return chance.choice((RICH, RICH, RICH, SAVER, SAVER, SAVER, POOR, READER))


def _symbol(chance: Random) -> str:
    return chance.choice(("BTCUSDT", *NAMES))


def _near(chance: Random) -> Value:
    if chance.random() < 0.04:
        return Near(chance.choice((-90_000, -30_000, 30_000, 600_000)))
    if chance.random() < 0.15:
        return Meets(chance.randrange(8))
    return Near(chance.choice((chance.randint(-4, 4), chance.randint(-60, 60), chance.randint(-400, 400))))


def _worth(chance: Random) -> Value:
    if chance.random() < 0.12:
        return Everything()
    return Worth(chance.choice((6, 20, 200, 200, 2000, 30_000, 400_000, chance.choice((1, 4, 30_000, 400_000)))))


def _id(chance: Random) -> str:
    return chance.choice(("", "", "", "", "c1", "c2", "c3", "c4"))


def _mine(chance: Random) -> Value:
    back = chance.choice((0, 0, 1, 2, 4, 8))
    return chance.choice((Open, Open, Open, Open, Mine, Theirs))(back)


def _tif(chance: Random) -> str:
    return chance.choice(("GTC", "GTC", "GTC", "IOC", "FOK"))


def _form(chance: Random) -> str:
    return chance.choice(("", "", "ACK", "RESULT", "FULL"))


def _order(chance: Random) -> Params:
    kind, side = chance.choice(KINDS), chance.choice(("BUY", "SELL"))
    params: Params = {"symbol": _symbol(chance), "side": side, "type": kind}
    if kind == "MARKET" and chance.random() < 0.5:
        params["quoteOrderQty"] = chance.choice(("20", "6", "777.77", "40000", "0.1"))
    else:
        params["quantity"] = _worth(chance)
    if kind == "LIMIT" or kind.endswith("_LIMIT"):
        params["timeInForce"] = _tif(chance)
    if "LIMIT" in kind:
        params["price"] = _near(chance)
    if kind == "LIMIT_MAKER":
        params["price"] = Near(chance.randint(-1, 150) * (-1 if side == "BUY" else 1))
    if kind.startswith(("STOP", "TAKE")):
        rises = kind.startswith("STOP") == (side == "BUY")
        params["stopPrice"] = Near(chance.randint(-1, 120) * (1 if rises else -1))
    said: Params = {
        "newClientOrderId": _id(chance), "newOrderRespType": _form(chance),
        "selfTradePreventionMode": chance.choice(STP),
    }  # fmt: skip
    return params | said


def _test(chance: Random) -> Params:
    return _order(chance) | {"computeCommissionRates": chance.choice(("", "true", "false"))}


def _replace(chance: Random) -> Params:
    own: Params = {
        "cancelReplaceMode": chance.choice(("STOP_ON_FAILURE", "ALLOW_FAILURE")), "cancelOrderId": _mine(chance),
        "cancelRestrictions": chance.choice(("", "", "", "ONLY_NEW", "ONLY_PARTIALLY_FILLED")),
        "orderRateLimitExceededMode": chance.choice(("", "DO_NOTHING", "CANCEL_ONLY")),
    }  # fmt: skip
    return _order(chance) | own


def _pair(chance: Random) -> Params:
    side, gap = chance.choice(("BUY", "SELL")), chance.choice((0, 5, 30, 300))
    params: Params = {"symbol": _symbol(chance), "side": side, "quantity": _worth(chance)}
    gains, stops = ("above", "below") if side == "SELL" else ("below", "above")
    for leg, kinds in (
        (gains, ("LIMIT_MAKER", "LIMIT_MAKER", "TAKE_PROFIT", "TAKE_PROFIT_LIMIT")),
        (stops, ("STOP_LOSS", "STOP_LOSS_LIMIT")),
    ):
        kind = params[f"{leg}Type"] = chance.choice(kinds)
        at = Near((1 if leg == "above" else -1) * (gap + chance.randint(1, 20)))
        if kind != "LIMIT_MAKER":
            params[f"{leg}StopPrice"] = at
        if "LIMIT" in kind:
            params[f"{leg}Price"] = at if kind == "LIMIT_MAKER" else _near(chance)
        if kind.endswith("_LIMIT"):
            params[f"{leg}TimeInForce"] = _tif(chance)
    said: Params = {
        "listClientOrderId": _id(chance), "newOrderRespType": _form(chance),
        "selfTradePreventionMode": chance.choice(STP), "aboveClientOrderId": _id(chance),
    }  # fmt: skip
    return params | said


def _old_pair(chance: Random) -> Params:
    side, up, down = chance.choice(("BUY", "SELL")), Near(chance.randint(0, 40)), Near(-chance.randint(0, 40))
    limit, stop = (up, down) if side == "SELL" else (down, up)
    params: Params = {
        "symbol": _symbol(chance), "side": side, "quantity": _worth(chance), "price": limit, "stopPrice": stop,
        "newOrderRespType": _form(chance),
    }  # fmt: skip
    if chance.random() < 0.5:
        params |= {"stopLimitPrice": stop, "stopLimitTimeInForce": _tif(chance)}
    return params


def _one_order(chance: Random) -> Params:
    if chance.random() < 0.7:
        return {"symbol": _symbol(chance), "orderId": _mine(chance)}
    return {"symbol": _symbol(chance), "origClientOrderId": chance.choice(("c1", "c2", "c3", "c4"))}


def _cancel(chance: Random) -> Params:
    restrictions = chance.choice(("",) * 5 + ("ONLY_NEW", "ONLY_PARTIALLY_FILLED"))
    return _one_order(chance) | {"cancelRestrictions": restrictions, "newClientOrderId": _id(chance)}


def _ago(chance: Random) -> Value:
    return Ago(chance.choice(AGO_MS)) if chance.random() < 0.4 else ""


def _candles(chance: Random) -> Params:
    return {
        "symbol": _symbol(chance), "interval": chance.choice(("1s", "1m", "15m")), "startTime": _ago(chance),
        "endTime": _ago(chance), "limit": chance.choice(("1", "7", "60")),
        "timeZone": chance.choice(("", "", "0", "-5", "+05:45")),
    }  # fmt: skip


def _past(chance: Random) -> Params:
    return {
        "symbol": _symbol(chance), "limit": chance.choice(("", "", "1", "7", "1000", "5001")),
        "startTime": _ago(chance), "endTime": _ago(chance),
    }  # fmt: skip


def _newest(chance: Random) -> Params:
    return {"symbol": _symbol(chance), "limit": chance.choice(("", "1", "7", "1000", "5001"))}


def _old_trades(chance: Random) -> Params:
    return _newest(chance) | {"fromId": chance.choice(("", "1", "28276300800", "99999999999999999999"))}


def _lists(chance: Random) -> Params:
    return {"limit": chance.choice(("", "", "1", "7")), "startTime": _ago(chance)}


def _some(chance: Random) -> Params:
    return {
        "symbol": chance.choice(("", *NAMES)), "symbolStatus": chance.choice(("", "", "", "TRADING", "HALT")),
        "type": chance.choice(("", "", "MINI", "FULL")),
    }  # fmt: skip


def _prices(chance: Random) -> Params:
    return _some(chance) | {"type": ""}


def _window(chance: Random) -> Params:
    return {"symbol": _symbol(chance), "windowSize": chance.choice(("", "1m", "4h")), "type": _some(chance)["type"]}


def _day(chance: Random) -> Params:
    return {"symbols": '["BTCUSDT","BNBUSDT"]', "timeZone": chance.choice(("", "0", "-5"))}


def _info(chance: Random) -> Params:
    return {"symbol": _symbol(chance)} if chance.random() < 0.5 else {"permissions": chance.choice(("", "SPOT"))}


def _one_symbol(chance: Random) -> Params:
    return {"symbol": _symbol(chance)}


def _perhaps_symbol(chance: Random) -> Params:
    return {"symbol": chance.choice(("", *NAMES))}


def _account(chance: Random) -> Params:
    return {"omitZeroBalances": chance.choice(("", "true", "false"))}


def _prevented(chance: Random) -> Params:
    return {"symbol": _symbol(chance), "orderId": Mine(chance.randrange(8))}


def _one_list(chance: Random) -> Params:
    return {"orderListId": MyList(chance.choice((0, 0, 1, 2)))}


def _cancel_list(chance: Random) -> Params:
    return _one_symbol(chance) | _one_list(chance)


def _nothing(chance: Random) -> Params:
    return {}


def _fault(chance: Random) -> dict[str, object] | None:
    symbol = _symbol(chance)
    match chance.randrange(6):
        case 0:
            return {"kind": "halt", "symbol": symbol, "status": chance.choice(("HALT", "BREAK", "CANCEL_ONLY"))}
        case 1:
            return {"kind": "halt", "symbol": symbol, "seconds": 5}
        case 2:
            name, value = chance.choice(FILTERS)
            return {"kind": "filters", "symbol": symbol, name: value}
        case 3:
            asset = chance.choice(("USDT", "BTC", "BNB", "EUR"))
            return {"kind": "balance", "api_key": KEYS[_who(chance)], "asset": asset, "amount": chance.choice(AMOUNTS)}
    return None


CALLS: tuple[tuple[int, str, str, Callable[[Random], Params]], ...] = (
    (2, "GET", "ping", _nothing),
    (2, "GET", "time", _nothing),
    (2, "GET", "exchangeInfo", _info),
    (3, "GET", "depth", _newest),
    (2, "GET", "trades", _newest),
    (2, "GET", "historicalTrades", _old_trades),
    (2, "GET", "aggTrades", _past),
    (3, "GET", "klines", _candles),
    (2, "GET", "uiKlines", _candles),
    (2, "GET", "avgPrice", _one_symbol),
    (1, "GET", "referencePrice", _one_symbol),
    (2, "GET", "ticker/24hr", _some),
    (2, "GET", "ticker", _window),
    (2, "GET", "ticker/tradingDay", _day),
    (2, "GET", "ticker/price", _prices),
    (2, "GET", "ticker/bookTicker", _prices),
    (4, "GET", "account", _account),
    (2, "GET", "account/commission", _one_symbol),
    (2, "GET", "rateLimit/order", _nothing),
    (120, "POST", "order", _order),
    (6, "POST", "order/test", _test),
    (16, "POST", "order/cancelReplace", _replace),
    (6, "GET", "order", _one_order),
    (20, "DELETE", "order", _cancel),
    (4, "GET", "openOrders", _perhaps_symbol),
    (5, "DELETE", "openOrders", _one_symbol),
    (4, "GET", "allOrders", _past),
    (6, "GET", "myTrades", _past),
    (3, "GET", "myPreventedMatches", _prevented),
    (20, "POST", "orderList/oco", _pair),
    (8, "POST", "order/oco", _old_pair),
    (16, "DELETE", "orderList", _cancel_list),
    (3, "GET", "orderList", _one_list),
    (3, "GET", "openOrderList", _nothing),
    (3, "GET", "allOrderList", _lists),
    (1, "POST", "orderList/oto", _order),
    (1, "POST", "orderList/otoco", _order),
    (1, "POST", "orderList/opo", _order),
    (1, "POST", "orderList/opoco", _order),
    (1, "PUT", "order/amend/keepPriority", _one_order),
    (1, "POST", "sor/order", _order),
    (1, "POST", "sor/order/test", _order),
)
_FAULT = -1
_WEIGHTED = [at for at, call in enumerate(CALLS) for _ in range(call[0])] + [_FAULT] * 10
