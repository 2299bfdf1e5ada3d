"""Balances never go below zero and add up."""

from __future__ import annotations

import pytest

from simulator.core.accounts import Account


def an_account(**atoms: int) -> Account:
    return Account("key", "secret", "", 1, 0, atoms)


def test_a_lock_moves_from_free_to_locked_and_back():
    account = an_account(USDT=100)
    account.lock("USDT", 60)
    assert (account.free("USDT"), account.locked("USDT")) == (40, 60)
    account.lock("USDT", -60)
    assert (account.free("USDT"), account.locked("USDT")) == (100, 0)


def test_who_pays_pays_out_of_what_is_locked():
    account = an_account(USDT=100)
    account.lock("USDT", 60)

    account.pay("USDT", 50)
    account.credit("BTC", 3)

    assert account.balances == {"USDT": [40, 10], "BTC": [3, 0]}


@pytest.mark.parametrize("atoms", [101, -1])
def test_nobody_locks_or_frees_what_is_not_there(atoms):
    account = an_account(USDT=100)
    with pytest.raises(ValueError):
        account.lock("USDT", atoms)
    assert account.balances == {"USDT": [100, 0]}


@pytest.mark.parametrize("atoms", [1, -1])
def test_nobody_pays_what_is_not_locked(atoms):
    account = an_account(USDT=100)
    with pytest.raises(ValueError):
        account.pay("USDT", atoms)
    assert account.balances == {"USDT": [100, 0]}


def test_nothing_is_taken_that_is_not_free():
    account = an_account(USDT=100)
    account.lock("USDT", 60)
    with pytest.raises(ValueError):
        account.credit("USDT", -41)
    account.credit("USDT", -40)
    assert account.balances == {"USDT": [0, 60]}
