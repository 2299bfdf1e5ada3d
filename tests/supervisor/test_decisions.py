"""What happens next to a process, as tables."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from server.supervisor.backoff import RestartPolicy
from server.supervisor.decisions import (
    Abort,
    Action,
    End,
    HandOver,
    Kill,
    Life,
    Observation,
    Policy,
    Postpone,
    Renew,
    Settle,
    Spawn,
    Tell,
    Terminate,
    Verdict,
    Wait,
    judge_end,
    next_action,
)
from server.supervisor.health import HealthPolicy, Pulse
from shared.states import BotState, DesiredState

RUN, PAUSE, STOP = DesiredState.RUNNING, DesiredState.PAUSED, DesiredState.STOPPED
POLICY = Policy()


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        # nothing runs
        ({"desired": RUN}, Spawn()),
        ({"desired": PAUSE}, Spawn()),
        ({"desired": STOP}, Wait()),
        ({"desired": STOP, "status": BotState.RUNNING}, Settle()),
        ({"desired": STOP, "status": BotState.ERROR, "faulted": True}, Settle()),
        # it is to be stopped and left something to close: never given up, slow after a while
        ({"desired": STOP, "must_close": True}, Spawn(close_only=True)),
        ({"desired": STOP, "must_close": True, "failure_ages_s": (0.0,), "since_end_s": 0.0}, Spawn(close_only=True)),
        ({"desired": STOP, "must_close": True, "failure_ages_s": (0.5, 9.0), "since_end_s": 0.5}, Postpone()),
        ({"desired": STOP, "must_close": True, "failure_ages_s": (59.0,) * 90, "since_end_s": 59.0}, Postpone()),
        (
            {"desired": STOP, "must_close": True, "failure_ages_s": (60.0,) * 90, "since_end_s": 60.0},
            Spawn(close_only=True),
        ),
        ({"desired": STOP, "must_close": True, "since_end_s": 59.0}, Postpone()),
        ({"desired": STOP, "must_close": True, "faulted": True, "since_end_s": 59.0}, Postpone()),
        ({"desired": STOP, "must_close": True, "faulted": True, "since_end_s": 60.0}, Spawn(close_only=True)),
        # it was told to close after its last end: at once, whatever happened before
        (
            {"desired": STOP, "must_close": True, "is_told_to_close": True, "since_end_s": 1.0},
            Spawn(close_only=True),
        ),
        (
            {"desired": STOP, "must_close": True, "is_told_to_close": True, "faulted": True, "since_end_s": 1.0},
            Spawn(close_only=True),
        ),
        ({"desired": STOP, "must_close": True, "is_told_to_close": True, "is_unread": True}, Wait()),
        (
            {"desired": RUN, "faulted": True, "has_open_position": True, "is_told_to_close": True, "since_end_s": 1.0},
            Spawn(close_only=True),
        ),
        ({"desired": STOP, "must_close": True, "is_unread": True}, Wait()),
        ({"desired": STOP, "is_unread": True, "status": BotState.STOPPING}, Wait()),
        ({"desired": RUN, "life": Life.AWAITED}, Wait()),
        ({"desired": RUN, "life": Life.UNKNOWN}, Wait()),
        ({"desired": STOP, "life": Life.UNKNOWN}, Wait()),
        # it died: at once, then 1, 2, 4 s
        ({"desired": RUN, "death_ages_s": (0.0,), "since_end_s": 0.0}, Spawn()),
        ({"desired": RUN, "death_ages_s": (0.9, 9.0), "since_end_s": 0.9}, Wait()),
        ({"desired": RUN, "death_ages_s": (1.0, 9.0), "since_end_s": 1.0}, Spawn()),
        ({"desired": RUN, "death_ages_s": (0.5, 9.0), "since_end_s": 0.5, "jitter": 1.0}, Spawn()),
        ({"desired": RUN, "death_ages_s": (1.9, 5.0, 9.0), "since_end_s": 1.9}, Wait()),
        ({"desired": RUN, "death_ages_s": (0.1, 601.0, 700.0), "since_end_s": 0.1}, Spawn()),
        # given up
        ({"desired": RUN, "faulted": True}, Wait()),
        ({"desired": RUN, "faulted": True, "has_open_position": True, "since_end_s": 59.0}, Wait()),
        ({"desired": RUN, "faulted": True, "has_open_position": True, "since_end_s": 60.0}, Spawn(close_only=True)),
        # alive
        ({"desired": RUN, "life": Life.ALIVE}, Wait()),
        ({"desired": RUN, "life": Life.ALIVE, "told": False}, Tell()),
        ({"desired": RUN, "life": Life.ALIVE, "told": False, "listens": False}, Wait()),
        ({"desired": STOP, "life": Life.ALIVE, "told": False}, Terminate()),
        ({"desired": RUN, "life": Life.ALIVE, "silent_s": 30.0}, Abort("no heartbeat for 30 s")),
        ({"desired": RUN, "life": Life.ALIVE, "silent_s": 60.0, "silence_limit_s": 120.0}, Wait()),
        ({"desired": RUN, "life": Life.ALIVE, "silent_s": 34.0, "aborted_s": 4.0}, Wait()),
        ({"desired": RUN, "life": Life.ALIVE, "silent_s": 35.0, "aborted_s": 5.0}, Kill("no heartbeat for 35 s")),
        ({"desired": RUN, "life": Life.ALIVE, "is_close_only": True, "faulted": True}, Wait()),
        ({"desired": RUN, "life": Life.ALIVE, "is_close_only": True}, Renew()),
        ({"desired": RUN, "life": Life.ALIVE, "is_restart_wanted": True}, HandOver()),
        ({"desired": PAUSE, "life": Life.ALIVE, "is_restart_wanted": True}, HandOver()),
        ({"desired": RUN, "life": Life.ALIVE, "is_restart_wanted": True, "listens": False}, Wait()),
        ({"desired": RUN, "life": Life.ALIVE, "is_restart_wanted": True, "stopping_s": 1.0}, Wait()),
        ({"desired": STOP, "life": Life.ALIVE, "is_restart_wanted": True}, Terminate()),
        ({"desired": RUN, "is_restart_wanted": True}, Spawn()),
        # stopping
        ({"desired": STOP, "life": Life.ALIVE, "stopping_s": 29.0, "quiet_s": 29.0}, Wait()),
        (
            {"desired": STOP, "life": Life.ALIVE, "stopping_s": 30.0, "quiet_s": 31.0},
            Kill("did not stop within 30 s"),
        ),
        ({"desired": STOP, "life": Life.ALIVE, "stopping_s": 300.0, "quiet_s": 3.0}, Wait()),
        ({"desired": STOP, "life": Life.ALIVE, "stopping_s": 300.0, "quiet_s": 300.0, "must_close": True}, Wait()),
        (
            {"desired": STOP, "life": Life.ALIVE, "stopping_s": 30.0, "quiet_s": 30.0, "silent_s": 30.0}
            | {"must_close": True},
            Abort("no heartbeat for 30 s"),
        ),
        ({"desired": RUN, "life": Life.ALIVE, "stopping_s": 3.0, "quiet_s": 3.0}, Wait()),
    ],
)
def test_next_action(facts: dict[str, Any], expected: Action) -> None:
    assert next_action(Observation(**({"life": Life.NONE} | facts)), POLICY) == expected


def test_when_everything_ends_progress_buys_no_time() -> None:
    hurried = Policy(stop_s=18, stop_may_extend=False)
    seen = Observation(desired=STOP, life=Life.ALIVE, stopping_s=18.0, quiet_s=0.1)

    assert next_action(seen, hurried) == Kill("did not stop within 18 s")
    assert next_action(replace(seen, must_close=True), hurried) == Kill("did not stop within 18 s")


@pytest.mark.parametrize(
    ("code", "reason", "wanted", "deaths", "expected"),
    [
        (0, "asked to stop", True, 0, Verdict(status=BotState.STOPPING, reason=None)),
        (
            -9, "killed: did not stop within 30 s", True, 9,
            Verdict(
                status=BotState.STOPPING,
                reason="It did not end in order: killed by signal 9, killed: did not stop within 30 s.",
            ),
        ),
        (
            78, "No such symbol.", False, 1,
            Verdict(status=BotState.ERROR, reason="No such symbol.", note="No such symbol.", is_fault=True),
        ),
        (73, None, False, 1, Verdict(status=BotState.STARTING, reason="Another process of this bot holds its lock.")),
        (75, "no net", False, 9, Verdict(status=BotState.STARTING, reason="Waiting to start again: no net")),
        (
            -11, None, False, 4,
            Verdict(
                status=BotState.STARTING,
                reason="Starting again: killed by signal 11",
                note="The bot ended by itself: killed by signal 11",
            ),
        ),
    ],
)  # fmt: skip
def test_judge_end(code: int, reason: str | None, wanted: bool, deaths: int, expected: Verdict) -> None:
    assert judge_end(End(code=code, reason=reason, wanted=wanted, deaths=deaths), POLICY) == expected


@pytest.mark.parametrize(
    ("code", "more", "expected"),
    [
        (0, {"must_close": True}, Verdict(status=BotState.STOPPING, reason=None)),
        (
            1, {"must_close": True},
            Verdict(
                status=BotState.STOPPING,
                reason="It did not end in order: exit code 1, x. What it holds is still to be closed.",
            ),
        ),
        (78, {"must_close": True}, Verdict(status=BotState.ERROR, reason="x", note="x", is_fault=True)),
        (78, {}, Verdict(status=BotState.STOPPING, reason="It did not end in order: exit code 78, x.")),
        (0, {"is_final": True}, Verdict(status=BotState.STOPPED, reason=None)),
        (
            1, {"must_close": True, "is_final": True},
            Verdict(status=BotState.STOPPED, reason="It did not end in order: exit code 1, x."),
        ),
    ],
)  # fmt: skip
def test_a_wanted_end_is_no_rest_while_something_is_left_to_close(
    code: int, more: dict[str, Any], expected: Verdict
) -> None:
    assert judge_end(End(code=code, reason="x", wanted=True, deaths=0, **more), POLICY) == expected


def test_the_fifth_death_in_ten_minutes_is_a_crash_loop() -> None:
    verdict = judge_end(End(code=None, reason=None, wanted=False, deaths=5), POLICY)

    assert verdict.is_fault
    assert verdict.reason == (
        "Crash loop: 5 ends in 10 minutes; the last: ended without a word (killed?). Press start to try again."
    )


def test_delays_double_to_the_cap_and_jitter_takes_at_most_half_away() -> None:
    policy = RestartPolicy()

    assert [policy.delay_s(n, 0.0) for n in (1, 2, 3, 4, 8, 9, 1000)] == [0, 1, 2, 4, 60, 60, 60]
    assert [policy.delay_s(n, 1.0) for n in (1, 2, 3)] == [0, 0.5, 1]


def test_time_that_nobody_watched_is_not_held_against_a_bot() -> None:
    pulse = Pulse()
    pulse.saw({"heartbeat"})

    pulse.advance(600.0)  # the supervisor was stopped for ten minutes

    assert pulse.silent_s == 1.0
    assert pulse.limit_s(HealthPolicy()) == 30


def test_before_the_first_heartbeat_any_line_is_a_sign_of_life_and_then_only_heartbeats_are() -> None:
    pulse = Pulse()
    pulse.advance(0.5)
    pulse.saw({"log"})
    assert (pulse.silent_s, pulse.limit_s(HealthPolicy())) == (0.0, 120)

    pulse.saw({"heartbeat"})
    pulse.advance(0.5)
    pulse.saw({"log"})
    assert pulse.silent_s == 0.5
