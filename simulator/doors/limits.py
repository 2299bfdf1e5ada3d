"""Rate limits: request weight per address and orders per account, in the exchange's fixed windows.

Pure: the wall time comes with each call. Says what was used and refuses what is too much.
"""

from __future__ import annotations

from simulator.core.rules import ApiError

MINUTE_MS, TEN_SECONDS_MS, DAY_MS = 60_000, 10_000, 86_400_000
WEIGHT_LIMIT, ORDERS_10S, ORDERS_1D = 6000, 100, 200_000
CONNECTIONS_MS, CONNECTIONS_LIMIT = 300_000, 300
REQUESTS_MS, REQUESTS_LIMIT = 300_000, 300_000
IGNORED_LIMIT, BAN_MS = 10, 120_000  # who goes on asking after so many refusals in a minute is banned for so long


class Limits:
    """Counters of the current windows. With *enforced* off they count but never refuse."""

    def __init__(self, enforced: bool = True) -> None:
        self.enforced = enforced
        self._used: dict[tuple[str, int], tuple[int, int]] = {}  # (who, window length) -> (window, count)
        self._banned: dict[str, int] = {}  # address -> wall ms until which it is banned

    def spend_weight(self, address: str, weight: int, now_ms: int) -> None:
        """Charge a request; 429 with -1003 when the minute's weight or the requests of five minutes are used up, 418
        for who ignores that."""
        if now_ms < self._banned.get(address, 0):
            raise banned(self._banned[address], now_ms)
        if self._add(address, MINUTE_MS, weight, now_ms) > WEIGHT_LIMIT:
            what = f"Too much request weight used; current limit is {WEIGHT_LIMIT} request weight per 1 MINUTE."
            self._refuse(address, what, MINUTE_MS, now_ms)
        if self._add(address, REQUESTS_MS, 1, now_ms) > REQUESTS_LIMIT:
            what = f"Too many requests; current limit is {REQUESTS_LIMIT} requests per 5 MINUTE."
            self._refuse(address, what, REQUESTS_MS, now_ms)

    def give_back_weight(self, address: str, weight: int, now_ms: int) -> None:
        """Orders that succeed cost no weight."""
        self._add(address, MINUTE_MS, -weight, now_ms)

    def weight_used(self, address: str, now_ms: int) -> int:
        """Weight used in the current minute."""
        return self._add(address, MINUTE_MS, 0, now_ms)

    def count_connection(self, address: str, now_ms: int) -> None:
        """Count an attempt to open a websocket; 429 when an address has tried too often in five minutes."""
        if self._add(f"websockets of {address}", CONNECTIONS_MS, 1, now_ms) > CONNECTIONS_LIMIT and self.enforced:
            raise ApiError(
                -1034,
                f"Too many connection attempts from IP; current limit is {CONNECTIONS_LIMIT} per '5 MINUTE'.",
                429,
                {"Retry-After": str(_seconds_left(CONNECTIONS_MS, now_ms))},
            )

    def check_orders(self, api_key: str, now_ms: int) -> None:
        """429 with -1015 when the account has used up its unfilled orders."""
        for window, limit, text in ((TEN_SECONDS_MS, ORDERS_10S, "10 SECOND"), (DAY_MS, ORDERS_1D, "1 DAY")):
            if self.enforced and self._add(api_key, window, 0, now_ms) >= limit:
                raise ApiError(
                    -1015,
                    f"Too many new orders; current limit is {limit} orders per {text}.",
                    429,
                    {"Retry-After": str(_seconds_left(window, now_ms))},
                )

    def count_orders(self, api_key: str, number: int, now_ms: int) -> None:
        """Add *number* to the unfilled orders of the account; they never go below 0."""
        self._add(api_key, TEN_SECONDS_MS, number, now_ms)
        self._add(api_key, DAY_MS, number, now_ms)

    def orders_used(self, api_key: str, now_ms: int) -> tuple[int, int]:
        """Unfilled orders counted in the current 10 seconds and the current day."""
        return self._add(api_key, TEN_SECONDS_MS, 0, now_ms), self._add(api_key, DAY_MS, 0, now_ms)

    def order_counts(self, api_key: str, now_ms: int) -> list[dict[str, object]]:
        """The limits on orders with what the account has used of each."""
        used = self.orders_used(api_key, now_ms)
        return [
            {"rateLimitType": "ORDERS", "interval": interval, "intervalNum": number, "limit": limit, "count": count}
            for (interval, number, limit), count in zip(ORDER_LIMITS, used, strict=True)
        ]

    def _refuse(self, address: str, what: str, window_ms: int, now_ms: int) -> None:
        if not self.enforced:
            return
        if self._add(f"refusals of {address}", MINUTE_MS, 1, now_ms) > IGNORED_LIMIT:
            self._banned[address] = now_ms + BAN_MS
            raise banned(self._banned[address], now_ms)
        text = f"{what} Please use WebSocket Streams for live updates to avoid polling the API."
        raise ApiError(-1003, text, 429, {"Retry-After": str(_seconds_left(window_ms, now_ms))})

    def _add(self, who: str, length_ms: int, number: int, now_ms: int) -> int:
        window = now_ms // length_ms
        known, count = self._used.get((who, length_ms), (window, 0))
        count = max(0, (count if known == window else 0) + number)
        self._used[who, length_ms] = (window, count)
        return count


def banned(until_ms: int, now_ms: int, told_ms: int | None = None) -> ApiError:
    """418: an address is banned until *until_ms*; *told_ms* is how the exchange's clock writes that."""
    return ApiError(
        -1003,
        f"Way too much request weight used; IP banned until {told_ms or until_ms}. "
        "Please use WebSocket Streams for live updates to avoid bans.",
        418,
        {"Retry-After": str(max(1, -(-(until_ms - now_ms) // 1000)))},
    )


ORDER_LIMITS = (("SECOND", 10, ORDERS_10S), ("DAY", 1, ORDERS_1D))


def rate_limits() -> list[dict[str, object]]:
    """``rateLimits`` of exchangeInfo."""
    rows = (
        ("REQUEST_WEIGHT", "MINUTE", 1, WEIGHT_LIMIT),
        ("ORDERS", "SECOND", 10, ORDERS_10S),
        ("ORDERS", "DAY", 1, ORDERS_1D),
        ("RAW_REQUESTS", "MINUTE", 5, REQUESTS_LIMIT),
    )
    return [
        {"rateLimitType": kind, "interval": interval, "intervalNum": number, "limit": limit}
        for kind, interval, number, limit in rows
    ]


def _seconds_left(length_ms: int, now_ms: int) -> int:
    return (length_ms - now_ms % length_ms) // 1000 + 1
