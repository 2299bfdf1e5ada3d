from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from bots.utils import config_loader
from bots.utils.config_loader import ConfigLoader
from shared.states import DesiredState
from shared.tickets import ControlDocument
from tests.waiting import DEADLINE_S, until


def document(version: int, desired: str = "running") -> dict:
    return {"control": {"desired": desired, "halted": False}, "config_version": version, "config": {"a": 1}}


@pytest.fixture
def play(control_server, monkeypatch):
    """Run a scene beside a loader that polls each *poll_s*; what it handed over is in the list."""

    def run(scene: Callable[[ConfigLoader, list[ControlDocument]], Awaitable[None]], poll_s: float = 3600.0) -> None:
        monkeypatch.setattr(config_loader, "POLL_S", poll_s)

        async def whole() -> None:
            seen: list[ControlDocument] = []
            loader = ConfigLoader(f"{control_server.url}/api/bots/7/control", "secret-token", seen.append)
            task = asyncio.create_task(loader.run())
            try:
                await scene(loader, seen)
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

        asyncio.run(whole())

    return run


def test_it_polls_at_the_start_with_its_token(control_server, play):
    control_server.document = document(3, "paused")

    async def scene(loader, seen):
        await until(lambda: seen)
        assert (seen[0].config_version, seen[0].control.desired) == (3, DesiredState.PAUSED)

    play(scene)

    assert control_server.asked[0] == {
        "path": "/api/bots/7/control", "etag": None, "authorization": "Bearer secret-token",
    }  # fmt: skip


def test_an_unchanged_document_is_not_handed_over_again(control_server, play):
    control_server.document = document(1)

    async def scene(loader, seen):
        await until(lambda: seen)
        began, asked = time.monotonic(), len(control_server.asked)
        await until(lambda: len(control_server.asked) > asked + 2)
        assert len(seen) == 1
        assert loader.age_s() < time.monotonic() - began

    play(scene, poll_s=0.02)

    assert all(asked["etag"] for asked in control_server.asked[1:])


def test_a_changed_document_is_handed_over_at_the_next_turn(control_server, play):
    control_server.document = document(1)

    async def scene(loader, seen):
        await until(lambda: seen)
        control_server.document = document(2)
        await until(lambda: len(seen) == 2)
        assert seen[1].config_version == 2

    play(scene, poll_s=0.02)


def test_waking_it_does_not_wait_for_the_turn(control_server, play):
    control_server.document = document(1)

    async def scene(loader, seen):
        await until(lambda: seen)
        control_server.document = document(2)
        loader.poll_now()
        await until(lambda: len(seen) == 2)

    play(scene)


@pytest.mark.parametrize("status", [401, 404, 500, 503])
def test_a_server_that_fails_changes_nothing_and_the_document_grows_old(control_server, play, status):
    control_server.document = document(1)

    async def scene(loader, seen):
        await until(lambda: seen)
        control_server.status = status
        asked = len(control_server.asked)
        await until(lambda: len(control_server.asked) > asked + 3)
        assert loader.failing
        assert loader.age_s() > 0.05
        began, control_server.status = time.monotonic(), 200
        await until(lambda: not loader.failing)
        assert loader.age_s() < time.monotonic() - began
        assert len(seen) == 1

    play(scene, poll_s=0.02)


@pytest.mark.parametrize(("status", "why"), [(401, "does not know this run"), (409, "another run")])
def test_a_server_that_has_nothing_more_to_say_to_this_run_is_not_taken_for_one_that_is_down(
    control_server, play, status, why
):
    control_server.document = document(1)

    async def scene(loader, seen):
        await until(lambda: seen)
        control_server.status = status
        await until(lambda: loader.refused)
        assert why in loader.refused
        control_server.status = 503
        asked = len(control_server.asked)
        await until(lambda: len(control_server.asked) > asked + 2)
        assert why in loader.refused
        control_server.status = 200
        await until(lambda: not loader.failing)
        assert loader.refused is None

    play(scene, poll_s=0.02)


def test_a_server_that_is_gone_changes_nothing(control_server, play):
    control_server.document = document(1)

    async def scene(loader, seen):
        await until(lambda: seen)
        await asyncio.to_thread(control_server.close)
        await until(lambda: loader.failing)
        assert len(seen) == 1

    play(scene, poll_s=0.02)


@pytest.mark.parametrize(
    "body",
    [b"<html>hello</html>", b"[]", b"{}", b"\xff", b'{"control":{"desired":"flying"},"config_version":1,"config":{}}'],
)
def test_a_bad_document_is_passed_over_and_asked_for_again(control_server, play, body):
    control_server.document = document(1)

    async def scene(loader, seen):
        await until(lambda: seen)
        control_server.body = body
        await until(lambda: loader.failing)
        control_server.body = None
        control_server.document = document(2)
        await until(lambda: len(seen) == 2)

    play(scene, poll_s=0.02)


def test_what_the_receiver_raises_is_not_taken_for_a_failing_server(control_server, monkeypatch):
    control_server.document = document(1)

    def broken(_: ControlDocument) -> None:
        raise ValueError("a bug in the core")

    async def scene() -> None:
        loader = ConfigLoader(f"{control_server.url}/api/bots/7/control", "t", broken)
        with pytest.raises(ValueError, match="a bug in the core"):
            async with asyncio.timeout(DEADLINE_S):
                await loader.run()

    asyncio.run(scene())
