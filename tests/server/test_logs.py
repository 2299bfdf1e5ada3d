"""What reaches the log never holds a secret, not even when a function that holds one breaks."""

from __future__ import annotations

import io

import structlog

from server.logs import log_to


def test_a_traceback_shows_no_local_variables():
    stream = io.StringIO()
    before = structlog.get_config()
    log_to(stream)
    secret = "-".join(["a", "very", "secret", "key"])
    try:
        _break_with_a_secret(secret)
    except ZeroDivisionError:
        structlog.get_logger().exception("it_broke", bot_id=3)
    finally:
        structlog.configure(**before)

    told = stream.getvalue()
    assert "it_broke" in told
    assert "bot_id=3" in told
    assert "ZeroDivisionError" in told
    assert secret not in told


def _break_with_a_secret(secret: str) -> float:
    copy = secret.upper().lower()
    return len(copy) / 0
