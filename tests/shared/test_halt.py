"""The halt file: that it is there is what counts."""

from __future__ import annotations

import pytest

from shared.halt import HaltOrder, halt_order


def absent() -> bytes:
    raise FileNotFoundError


def unreadable() -> bytes:
    raise PermissionError(13, "Permission denied")


def test_an_order_comes_back_as_it_was_written():
    order = HaltOrder(by="ann", reason="odd fills", at_ms=7, close_positions=True)

    assert halt_order(order.to_json) == order


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff", b'{"by": 7, "close_positions": "yes"}'])
def test_a_file_that_says_nothing_halts_and_closes_nothing(content: bytes):
    order = halt_order(lambda: content)

    assert order == HaltOrder()
    assert order is not None
    assert not order.close_positions


def test_no_file_is_no_order_and_one_that_cannot_be_read_halts():
    assert halt_order(absent) is None
    order = halt_order(unreadable)
    assert order is not None
    assert "Permission denied" in order.reason
