"""Request weight and orders in fixed windows, and what happens to who does not listen."""

from __future__ import annotations

import pytest

from simulator.core.rules import ApiError
from simulator.doors.limits import (
    BAN_MS,
    IGNORED_LIMIT,
    MINUTE_MS,
    ORDERS_10S,
    REQUESTS_LIMIT,
    REQUESTS_MS,
    WEIGHT_LIMIT,
    Limits,
)

NOON = 1_767_268_800_000


def refusal(ask) -> ApiError:
    with pytest.raises(ApiError) as error:
        ask()
    return error.value


def test_weight_is_counted_per_address_and_minute():
    limits = Limits()
    limits.spend_weight("a", WEIGHT_LIMIT, NOON)
    limits.spend_weight("b", 1, NOON)

    refused = refusal(lambda: limits.spend_weight("a", 1, NOON + 30_000))

    assert (refused.status, refused.code, refused.headers) == (429, -1003, {"Retry-After": "31"})
    limits.spend_weight("a", WEIGHT_LIMIT, NOON + MINUTE_MS)


def test_who_goes_on_asking_while_limited_is_banned_for_a_while():
    limits = Limits()
    limits.spend_weight("a", WEIGHT_LIMIT, NOON)
    statuses = [refusal(lambda: limits.spend_weight("a", 1, NOON)).status for _ in range(IGNORED_LIMIT + 1)]
    assert statuses == [429] * IGNORED_LIMIT + [418]

    banned = refusal(lambda: limits.spend_weight("a", 1, NOON + MINUTE_MS))

    assert (banned.status, banned.code) == (418, -1003)
    assert banned.msg.startswith(f"Way too much request weight used; IP banned until {NOON + BAN_MS}.")
    assert banned.headers == {"Retry-After": "60"}
    limits.spend_weight("b", 1, NOON + MINUTE_MS)
    limits.spend_weight("a", 1, NOON + BAN_MS)


def test_requests_are_counted_too_whatever_they_weigh():
    limits = Limits()
    for _ in range(REQUESTS_LIMIT):
        limits.spend_weight("a", 0, NOON)

    refused = refusal(lambda: limits.spend_weight("a", 0, NOON + 1000))

    assert (refused.status, refused.code, refused.headers) == (429, -1003, {"Retry-After": "300"})
    assert refused.msg.startswith("Too many requests; current limit is 300000 requests per 5 MINUTE.")
    limits.spend_weight("b", 0, NOON + 1000)
    limits.spend_weight("a", 0, NOON + REQUESTS_MS)


def test_orders_are_counted_per_account_and_given_back_when_they_fill():
    limits = Limits()
    limits.count_orders("k", ORDERS_10S, NOON)
    refused = refusal(lambda: limits.check_orders("k", NOON))
    assert (refused.status, refused.code) == (429, -1015)
    assert refused.msg == "Too many new orders; current limit is 100 orders per 10 SECOND."
    limits.count_orders("k", -1, NOON)
    limits.check_orders("k", NOON)
    limits.count_orders("k", -1000, NOON)
    assert limits.orders_used("k", NOON) == (0, 0)


def test_without_enforcement_everything_is_counted_and_nothing_refused():
    limits = Limits(enforced=False)
    for _ in range(3):
        limits.spend_weight("a", WEIGHT_LIMIT, NOON)
        limits.count_orders("k", ORDERS_10S, NOON)
        limits.check_orders("k", NOON)
    assert limits.weight_used("a", NOON) == 3 * WEIGHT_LIMIT
