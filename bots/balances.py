"""What the account holds of the symbol's two assets, from wherever it is heard, told when it changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal

from bots.core.messages import AccountSeen
from shared.events import Balance
from shared.symbols import SymbolRules


class Balances:
    """Hands each new state of the account to *feed*."""

    def __init__(self, rules: SymbolRules, feed: Callable[[AccountSeen], None]) -> None:
        self._rules, self._feed = rules, feed
        self._seen: AccountSeen | None = None

    def saw(self, account: AccountSeen) -> bool:
        """Take the whole account; whether that is news."""
        if account == self._seen:
            return False
        self._seen = account
        self._feed(account)
        return True

    def touched(self, assets: Mapping[str, tuple[Decimal, Decimal]]) -> bool:
        """Take free and locked amounts of some assets; whether that is news. Nothing before the whole was seen."""
        if self._seen is None:
            return False
        base = assets.get(self._rules.base, (self._seen.base_free, self._seen.base_locked))
        quote = assets.get(self._rules.quote, (self._seen.quote_free, self._seen.quote_locked))
        return self.saw(AccountSeen(base_free=base[0], base_locked=base[1], quote_free=quote[0], quote_locked=quote[1]))

    def fact(self, time_ms: int) -> Balance:
        """The account as it was seen last."""
        assert self._seen is not None
        return Balance(
            base_asset=self._rules.base,
            base_free=self._seen.base_free,
            base_locked=self._seen.base_locked,
            quote_asset=self._rules.quote,
            quote_free=self._seen.quote_free,
            quote_locked=self._seen.quote_locked,
            time_ms=time_ms,
        )
