"""What the server reads of exchanges: candles, prices, symbols and balances, each asked for once and shared.

Reads only; nothing but a bot sends orders. One request at a time goes out for each question; its answer is kept as
long as it may be shown (closed candles for an hour, the newest ones a second, prices ten, balances a minute), and older
candles are read in pages that begin and end at the same times for everybody. An exchange that does not answer is left
alone for two seconds, one that says for how long it wants no request for that long (bots share its patience), and
everybody is told since when it is silent.
"""

from __future__ import annotations

import hmac
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from functools import partial
from typing import Any, Final, TypeVar
from urllib.parse import urlencode

import requests

from server.storage.times import now_ms
from shared.errors import FlotillaError, NotFound, Refused
from shared.intervals import INTERVAL_MS
from shared.symbols import SymbolRules

MAX_CANDLES: Final = 1_500
TIMEOUT_S: Final = 3.0
_PAGE: Final = 1_000
_NEWEST: Final = (100, 500, _PAGE, MAX_CANDLES)
_TOO_MANY: Final = (418, 429)
_TOO_MANY_QUIET_S: Final = 60.0
_KEPT: Final = 256
_QUIET_S: Final = 2.0
_FRESH_S: Final = {"newest": 1.0, "history": 3_600.0, "price": 10.0, "symbols": 600.0, "balances": 60.0}
_RECV_WINDOW_MS: Final = 5_000
_NO_SUCH_SYMBOL: Final = -1121

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One candle. *is_closed* is False for the newest one, which may still form."""

    open_ms: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    is_closed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class AssetBalance:
    """What an account holds of one asset; *locked* is tied up in orders."""

    asset: str
    free: Decimal
    locked: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class _Page:
    """Older candles as they are kept. *is_first*: nothing lies before it; *is_over*: its last candle is closed."""

    bars: tuple[Bar, ...]
    is_first: bool
    is_over: bool


class ExchangeSilent(FlotillaError):
    """The exchange gave no answer, or none that can be read. *since_ms* is when that began (UTC); it is asked again
    after *retry_s*."""

    code = "exchange_silent"
    http_status = 503

    def __init__(self, exchange: str, since_ms: int, words: str, retry_s: float = _QUIET_S) -> None:
        self.retry_s = max(1, math.ceil(retry_s))
        super().__init__(f"The exchange {exchange} does not answer ({words}). Try again in {self.retry_s} s.")
        self.exchange = exchange
        self.since_ms = since_ms


class Market:
    """Reads of all exchanges. *rest_of* gives an exchange's REST base (it ends in ``/api``); raises `FlotillaError`."""

    def __init__(self, rest_of: Callable[[str], str]) -> None:
        self._rest_of = rest_of
        self._answers: OrderedDict[tuple[Any, ...], tuple[float, Any]] = OrderedDict()
        self._locks: OrderedDict[tuple[Any, ...], threading.Lock] = OrderedDict()
        self._guard = threading.Lock()
        self._silent: dict[str, tuple[int, float, str]] = {}
        self._workers: ThreadPoolExecutor | None = None
        self._asked: set[tuple[Any, ...]] = set()

    def candles(
        self, exchange: str, symbol: str, interval: str, *, limit: int, before_ms: int | None = None
    ) -> tuple[Bar, ...]:
        """Up to *limit* candles that open before *before_ms* (None: the newest), oldest first.

        Raises `NotFound` for an unknown symbol, `ExchangeSilent`.
        """
        if before_ms is not None:
            return self._older(exchange, symbol, interval, limit, before_ms)
        size = _newest_size(limit)
        key = ("newest", exchange, symbol, interval, size)
        return self._ask(key, lambda: self._fetch_newest(exchange, symbol, interval, size))[-limit:]

    def latest(self, exchange: str, symbol: str, interval: str, *, limit: int) -> tuple[Bar, ...]:
        """The newest candles as last read, at once and without waiting; a thread reads newer ones for the next call."""
        key = ("newest", exchange, symbol, interval, _newest_size(limit))
        with self._guard:
            known = self._answers.get(key)
            is_due = (known is None or known[0] <= time.monotonic()) and key not in self._asked
            if is_due:
                self._asked.add(key)
                if self._workers is None:
                    self._workers = ThreadPoolExecutor(max_workers=4, thread_name_prefix="market")
                workers = self._workers
        if is_due:
            workers.submit(self._refresh, key, exchange, symbol, interval, limit)
        found: tuple[Bar, ...] = known[1] if known else ()
        return found[-limit:]

    def price(self, exchange: str, symbol: str) -> Decimal:
        """The price of the last trade. Raises `NotFound`, `ExchangeSilent`."""
        return self._ask(("price", exchange, symbol), lambda: self._fetch_price(exchange, symbol))

    def symbols(self, exchange: str) -> tuple[SymbolRules, ...]:
        """All symbols that trade there, with their limits, by name. Raises `ExchangeSilent`."""
        return self._ask(("symbols", exchange), lambda: self._fetch_symbols(exchange))

    def balances(self, exchange: str, api_key: str, api_secret: str, after: int = 0) -> tuple[AssetBalance, ...]:
        """What the account of these keys holds, by asset. Another *after* (the latest fill) is another question.

        Raises `Refused` for keys that the exchange does not take, `ExchangeSilent`.
        """
        key = ("balances", exchange, api_key, after)
        return self._ask(key, lambda: self._fetch_balances(exchange, api_key, api_secret))

    def silent_since(self, exchange: str) -> int | None:
        """Since when the exchange gives no answer (UTC ms); None while it does."""
        silent = self._silent.get(exchange)
        return None if silent is None else silent[0]

    def _refresh(self, key: tuple[Any, ...], exchange: str, symbol: str, interval: str, limit: int) -> None:
        try:
            self.candles(exchange, symbol, interval, limit=limit)
        except FlotillaError:
            pass  # silent_since tells
        finally:
            with self._guard:
                self._asked.discard(key)

    def _older(self, exchange: str, symbol: str, interval: str, limit: int, before_ms: int) -> tuple[Bar, ...]:
        """Candles that open before a time, put together from pages that are the same whoever asks."""
        length = INTERVAL_MS[interval] * (_PAGE - 1)
        found: tuple[Bar, ...] = ()
        while len(found) < limit:
            end_ms = -(-before_ms // length) * length
            fetch = partial(self._fetch_page, exchange, symbol, interval, end_ms)
            page = self._ask(("history", exchange, symbol, interval, end_ms), fetch, _page_fresh_s)
            older = tuple(bar for bar in page.bars if bar.open_ms < before_ms)
            if not older:
                break
            found, before_ms = older + found, older[0].open_ms
            if page.is_first:
                break
        return found[-limit:]

    def _ask(self, key: tuple[Any, ...], fetch: Callable[[], T], fresh_s: Callable[[T], float] | None = None) -> T:
        with self._guard:
            lock = self._locks.setdefault(key, threading.Lock())
            while len(self._locks) > 4 * _KEPT:
                self._locks.popitem(last=False)
        with lock:
            with self._guard:
                known = self._answers.get(key)
            if known is not None and known[0] > time.monotonic():
                found: T = known[1]
                return found
            answer = fetch()
            kept_s = _FRESH_S[key[0]] if fresh_s is None else fresh_s(answer)
            with self._guard:
                self._answers[key] = (time.monotonic() + kept_s, answer)
                self._answers.move_to_end(key)
                while len(self._answers) > _KEPT:
                    self._answers.popitem(last=False)
            return answer

    def _get(self, exchange: str, path: str, api_key: str = "", **query: Any) -> Any:
        """The exchange's answer as JSON. Raises `NotFound`, `Refused` for keys, `ExchangeSilent`."""
        silent = self._silent.get(exchange)
        if silent is not None and time.monotonic() < silent[1]:
            raise ExchangeSilent(exchange, silent[0], silent[2], silent[1] - time.monotonic())
        url = f"{self._rest_of(exchange)}/v3/{path}"
        try:
            with requests.Session() as session:
                session.trust_env = False
                headers = {"X-MBX-APIKEY": api_key} if api_key else {}
                answer = session.get(url, params=query, headers=headers, timeout=TIMEOUT_S)
                if answer.status_code in _TOO_MANY:
                    raise self._fell_silent(exchange, f"HTTP {answer.status_code}: too many requests", _wait_s(answer))
                document = answer.json()
        except requests.Timeout:
            raise self._fell_silent(exchange, f"no answer within {TIMEOUT_S:g} s") from None
        except (requests.RequestException, ValueError) as error:
            words = "unreadable answer" if isinstance(error, ValueError) else "no connection"
            raise self._fell_silent(exchange, words) from None
        if answer.status_code == 400 and _code(document) == _NO_SUCH_SYMBOL:
            raise NotFound(f"The exchange {exchange} lists no symbol {query.get('symbol')}.")
        if api_key and answer.status_code in (400, 401, 403):
            words = str(document.get("msg", "")) if isinstance(document, Mapping) else ""
            raise Refused(f"The exchange {exchange} refuses these keys: {words or answer.status_code}")
        if answer.status_code != 200:
            raise self._fell_silent(exchange, f"HTTP {answer.status_code}")
        if silent is not None:
            self._silent.pop(exchange, None)
        return document

    def _fell_silent(self, exchange: str, words: str, quiet_s: float = _QUIET_S) -> ExchangeSilent:
        with self._guard:
            before = self._silent.get(exchange)
            since, until = (now_ms(), 0.0) if before is None else before[:2]
            until = max(until, time.monotonic() + quiet_s)
            self._silent[exchange] = (since, until, words)
        return ExchangeSilent(exchange, since, words, until - time.monotonic())

    def _read(self, exchange: str, read: Callable[[], T]) -> T:
        try:
            return read()
        except (KeyError, IndexError, TypeError, ValueError, InvalidOperation):
            raise self._fell_silent(exchange, "unreadable answer") from None

    def _fetch_newest(self, exchange: str, symbol: str, interval: str, limit: int) -> tuple[Bar, ...]:
        found: list[Bar] = []
        while len(found) < limit:
            size = min(_PAGE, limit - len(found))
            end_ms = found[0].open_ms - 1 if found else None
            page = self._read_candles(exchange, symbol, interval, size, end_ms)
            found = page + found
            if len(page) < size:
                break
        if found:
            found[-1] = replace(found[-1], is_closed=False)
        return tuple(found)

    def _fetch_page(self, exchange: str, symbol: str, interval: str, end_ms: int) -> _Page:
        # The candle after the page is asked for as well: where there is one, the page will not change any more.
        bars = self._read_candles(exchange, symbol, interval, _PAGE, end_ms)
        is_first, is_over = len(bars) < _PAGE, bool(bars) and bars[-1].open_ms >= end_ms
        if bars and not is_over:
            bars[-1] = replace(bars[-1], is_closed=False)
        return _Page(bars=tuple(bars[:-1] if is_over else bars), is_first=is_first, is_over=is_over)

    def _read_candles(self, exchange: str, symbol: str, interval: str, size: int, end_ms: int | None) -> list[Bar]:
        query: dict[str, Any] = {"symbol": symbol, "interval": interval, "limit": size}
        if end_ms is not None:
            query["endTime"] = end_ms
        rows = self._get(exchange, "klines", **query)
        return self._read(exchange, partial(_bars, rows))

    def _fetch_price(self, exchange: str, symbol: str) -> Decimal:
        answer = self._get(exchange, "ticker/price", symbol=symbol)
        return self._read(exchange, lambda: Decimal(answer["price"]))

    def _fetch_balances(self, exchange: str, api_key: str, api_secret: str) -> tuple[AssetBalance, ...]:
        query = {"omitZeroBalances": "true", "recvWindow": _RECV_WINDOW_MS, "timestamp": now_ms()}
        signature = hmac.new(api_secret.encode(), urlencode(query).encode(), "sha256").hexdigest()
        answer = self._get(exchange, "account", api_key, **query, signature=signature)
        found = self._read(exchange, lambda: [_balance(row) for row in answer["balances"]])
        return tuple(sorted(found, key=lambda balance: balance.asset))

    def _fetch_symbols(self, exchange: str) -> tuple[SymbolRules, ...]:
        answer = self._get(exchange, "exchangeInfo")
        rules = self._read(exchange, lambda: [SymbolRules.from_exchange_info(s) for s in answer["symbols"]])
        return tuple(sorted((r for r in rules if r.status == "TRADING"), key=lambda r: r.symbol))


def _newest_size(limit: int) -> int:
    """How many of the newest candles are read for *limit*: few sizes, so that they are few questions."""
    return next((size for size in _NEWEST if limit <= size), limit)


def _page_fresh_s(page: _Page) -> float:
    return _FRESH_S["history" if page.is_over else "newest"]


def _wait_s(answer: requests.Response) -> float:
    """For how long the exchange wants no request."""
    text = answer.headers.get("Retry-After", "")
    return max(_QUIET_S, float(text)) if text.isascii() and text.isdigit() else _TOO_MANY_QUIET_S


def _balance(row: Any) -> AssetBalance:
    return AssetBalance(asset=str(row["asset"]), free=Decimal(row["free"]), locked=Decimal(row["locked"]))


def _bars(rows: Any) -> list[Bar]:
    if not isinstance(rows, list):
        raise TypeError("not a list of candles")
    return [_bar(row) for row in rows]


def _bar(row: Any) -> Bar:
    open_ms, opened, high, low, close, volume = row[:6]
    return Bar(
        open_ms=int(open_ms),
        open=Decimal(opened),
        high=Decimal(high),
        low=Decimal(low),
        close=Decimal(close),
        volume=Decimal(volume),
        is_closed=True,
    )


def _code(document: Any) -> Any:
    return document.get("code") if isinstance(document, Mapping) else None
