"""Balances of one account: what is free, what is locked by open orders.

Pure. Amounts are integer atoms (1e-8 of an asset). Nothing here may go below zero: a caller that tries has a bug, and
gets ``ValueError`` before anything changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(slots=True)
class Account:
    """One customer. `balances` maps an asset to [free, locked]; `deposits` is what the account was opened with.

    `key_kind` is HMAC, ED25519 or RSA; for the latter two `api_secret` holds the public key in PEM.
    """

    api_key: str
    api_secret: str
    name: str
    uid: int
    opened_ms: int
    deposits: Mapping[str, int]
    updated_ms: int = 0
    balances: dict[str, list[int]] = field(default_factory=dict)
    key_kind: str = "HMAC"

    def __post_init__(self) -> None:
        self.updated_ms = self.updated_ms or self.opened_ms
        for asset, atoms in self.deposits.items():
            self.balances[asset] = [atoms, 0]

    def free(self, asset: str) -> int:
        """Atoms of *asset* that are not locked."""
        return self.balances.get(asset, (0, 0))[0]

    def locked(self, asset: str) -> int:
        """Atoms of *asset* that open orders hold."""
        return self.balances.get(asset, (0, 0))[1]

    def lock(self, asset: str, atoms: int) -> None:
        """Move *atoms* from free to locked (negative: back)."""
        free, locked = self.free(asset) - atoms, self.locked(asset) + atoms
        if free < 0 or locked < 0:
            raise ValueError(f"cannot lock {atoms} of {asset}: free {self.free(asset)}, locked {self.locked(asset)}")
        self.balances[asset] = [free, locked]

    def exchange(self, paid: tuple[str, int], got: tuple[str, int]) -> None:
        """Pay (asset, atoms) out of what is locked and receive (asset, atoms), net of fees, as free."""
        (spent_asset, spent), (asset, received) = paid, got
        if spent > self.locked(spent_asset) or received < 0:
            raise ValueError(f"cannot pay {spent} of {spent_asset}: locked {self.locked(spent_asset)}")
        self.balances[spent_asset][1] -= spent
        self.balances.setdefault(asset, [0, 0])[0] += received
