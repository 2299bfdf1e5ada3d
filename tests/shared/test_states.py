"""States and the moves between them."""

from __future__ import annotations

from itertools import product

import pytest

from shared.states import BOT_MOVES, POSITION_MOVES, BotState, OrderState, PositionState, Role, order_move_allowed

S = OrderState
FINAL = {S.FILLED, S.CANCELLED, S.EXPIRED, S.REJECTED}


def test_final_orders_are_those_to_which_nothing_can_happen():
    assert {state for state in S if state.is_final} == FINAL


@pytest.mark.parametrize(("before", "after"), list(product(sorted(FINAL), S)))
def test_a_final_order_never_moves(before, after):
    assert not order_move_allowed(before, after)


@pytest.mark.parametrize("before", sorted(set(S) - FINAL))
def test_an_open_order_may_end_in_any_way(before):
    assert all(order_move_allowed(before, after) for after in FINAL)


@pytest.mark.parametrize(
    ("before", "after", "allowed"),
    [
        (S.INTENT, S.UNKNOWN, True), (S.UNKNOWN, S.NEW, True), (S.NEW, S.PARTIALLY_FILLED, True),
        (S.INTENT, S.PARTIALLY_FILLED, True), (S.NEW, S.NEW, True), (S.PARTIALLY_FILLED, S.NEW, False),
        (S.NEW, S.UNKNOWN, False), (S.UNKNOWN, S.INTENT, False),
    ],
)  # fmt: skip
def test_an_order_never_moves_back(before, after, allowed):
    assert order_move_allowed(before, after) is allowed


def test_every_state_says_where_it_may_go():
    assert set(BOT_MOVES) == set(BotState)
    assert set(POSITION_MOVES) == set(PositionState)


def test_a_position_that_is_over_stays_over():
    assert not POSITION_MOVES[PositionState.CLOSED] | POSITION_MOVES[PositionState.CANCELLED]


def test_a_position_that_holds_something_is_never_cancelled():
    assert POSITION_MOVES[PositionState.ACTIVE] == {PositionState.CLOSED}


def test_every_role_has_a_letter_of_its_own():
    assert len({role.letter for role in Role}) == len(Role)
