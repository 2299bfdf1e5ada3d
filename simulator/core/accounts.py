"""One account: whose key it is, what it may do, what it pays, and its balances, free and locked by open orders.

Pure. Amounts are integer atoms (1e-8 of an asset). Nothing here may go below zero: a caller that tries has a bug, and
gets ``ValueError`` before anything changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(slots=True)
class Account:
    """One customer. `balances` maps an asset to [free, locked]; `deposits` is what the account was opened with. Fees
    of -1 are the symbol's own."""

    api_key: str
    api_secret: str
    name: str
    uid: int
    opened_ms: int
    deposits: Mapping[str, int]
    key_kind: str = "HMAC"
    can_trade: bool = True
    maker_ppm: int = -1
    taker_ppm: int = -1
    pays_in_bnb: bool = False
    updated_ms: int = 0
    balances: dict[str, list[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.updated_ms = self.updated_ms or self.opened_ms
        for asset, atoms in self.deposits.items():
            self.balances[asset] = [atoms, 0]

    def free(self, asset: str) -> int:
        """Atoms of *asset* that are not locked."""
        pair = self.balances.get(asset)
        return pair[0] if pair else 0

    def locked(self, asset: str) -> int:
        """Atoms of *asset* that open orders hold."""
        pair = self.balances.get(asset)
        return pair[1] if pair else 0

    def lock(self, asset: str, atoms: int) -> None:
        """Move *atoms* from free to locked (negative: back)."""
        pair = self.balances.setdefault(asset, [0, 0])
        free, locked = pair
        if free < atoms or locked < -atoms:
            raise ValueError(f"cannot lock {atoms} of {asset}: free {free}, locked {locked}")
        pair[0], pair[1] = free - atoms, locked + atoms

    def pay(self, asset: str, atoms: int) -> None:
        """Pay *atoms* out of what is locked."""
        pair = self.balances.get(asset)
        if pair is None or not 0 <= atoms <= pair[1]:
            raise ValueError(f"cannot pay {atoms} of {asset}: locked {self.locked(asset)}")
        pair[1] -= atoms

    def credit(self, asset: str, atoms: int) -> None:
        """Add *atoms* to what is free (negative: take them)."""
        pair = self.balances.setdefault(asset, [0, 0])
        if pair[0] + atoms < 0:
            raise ValueError(f"cannot take {-atoms} of {asset}: free {pair[0]}")
        pair[0] += atoms
