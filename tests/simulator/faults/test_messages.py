"""Messages lost, doubled, swapped and late, for each receiver on its own."""

from __future__ import annotations

import json

import pytest

KLINE, REPORT, POSITION = "btcusdt@kline_1s", "user@executionReport", "user@outboundAccountPosition"


class Receiver:
    """Keeps what it is sent."""

    def __init__(self) -> None:
        self.got: list[str] = []

    def send(self, text: str) -> None:
        self.got.append(text)


@pytest.fixture
def deliver(faults):
    """Deliver texts of one channel, one a second."""

    def deliver(receiver: Receiver, texts: str, channel: str = KLINE, owner: str = "", from_ms: int = 0) -> list[str]:
        for n, text in enumerate(texts):
            faults.deliver(channel, text, receiver.send, from_ms + n * 1000, owner)
        return receiver.got

    return deliver


def test_without_faults_everything_arrives(deliver):
    assert deliver(Receiver(), "abc") == ["a", "b", "c"]


def test_silence_meets_its_streams_for_its_time(faults, deliver):
    faults.add({"kind": "silence", "stream": "kline_1s", "seconds": 2}, 0)

    assert deliver(Receiver(), "abc") == ["c"]
    assert deliver(Receiver(), "abc", channel="btcusdt@trade") == ["a", "b", "c"]


def test_each_third_message_is_lost_of_each_receiver(faults, deliver):
    faults.add({"kind": "drop", "every": 3}, 0)
    one, two = Receiver(), Receiver()
    for text in "abcdef":
        deliver(one, text)
        deliver(two, text)

    assert one.got == two.got == ["a", "b", "d", "e"]


def test_so_many_messages_are_lost_and_no_more(faults, deliver):
    faults.add({"kind": "drop", "count": 2}, 0)

    assert deliver(Receiver(), "abcd") == ["c", "d"]
    assert faults.listed(0) == []


def test_messages_arrive_twice(faults, deliver):
    faults.add({"kind": "duplicate", "count": 2}, 0)

    assert deliver(Receiver(), "abc") == ["a", "a", "b", "b", "c"]


def test_neighbours_change_places(faults, deliver):
    faults.add({"kind": "reorder", "count": 2}, 0)

    assert deliver(Receiver(), "abcdef") == ["b", "a", "d", "c", "e", "f"]


def test_user_events_of_one_account_are_one_line(faults, deliver):
    faults.add({"kind": "reorder", "stream": "user@"}, 0)
    receiver = Receiver()
    deliver(receiver, "r", REPORT, "key")
    deliver(receiver, "x", REPORT, "other")
    deliver(receiver, "k")
    deliver(receiver, "p", POSITION, "key")

    assert receiver.got == ["k", "p", "r"]


def test_a_message_that_waits_for_its_neighbour_is_let_go_in_the_end(faults, deliver):
    fault = faults.add({"kind": "reorder"}, 0)
    receiver = Receiver()
    assert deliver(receiver, "a") == []

    faults.remove(fault.id)

    assert receiver.got == ["a"]


def test_late_messages_keep_their_order_and_nobody_overtakes(faults, timers, deliver):
    fault = faults.add({"kind": "delay_events", "seconds": 5, "count": 2}, 0)
    receiver = Receiver()

    assert deliver(receiver, "abc") == []
    assert fault.left == 0
    assert [seconds for seconds, _ in timers.set] == [5, 5, 4]  # c comes with b
    timers.run()

    assert receiver.got == ["a", "b", "c"]
    assert deliver(receiver, "d") == ["a", "b", "c", "d"]


def test_a_stream_that_is_well_again_has_no_backlog(faults, timers, deliver):
    faults.add({"kind": "delay_events", "seconds": 3600}, 0)
    receiver = Receiver()
    deliver(receiver, "ab")

    faults.clear()

    assert receiver.got == ["a", "b"]
    assert deliver(receiver, "c") == ["a", "b", "c"]
    timers.run()
    assert receiver.got == ["a", "b", "c"]


def test_lateness_itself_ends_after_a_time(faults, timers, deliver):
    faults.add({"kind": "delay_events", "seconds": 2, "lasting": 10}, 0)
    receiver = Receiver()

    assert deliver(receiver, "a", from_ms=9000) == []
    timers.run()
    assert deliver(receiver, "b", from_ms=11_000) == ["a", "b"]


def test_the_report_of_a_fill_is_lost_and_no_other(faults, deliver):
    faults.add({"kind": "lose_fill", "count": 1, "api_key": "mine"}, 0)
    receiver = Receiver()
    new, fill = (json.dumps({"subscriptionId": 0, "event": {"e": "executionReport", "x": x}}) for x in ("NEW", "TRADE"))
    position = json.dumps({"subscriptionId": 0, "event": {"e": "outboundAccountPosition"}})
    for channel, text, owner in (
        (REPORT, fill, "other"), (REPORT, new, "mine"), (REPORT, fill, "mine"), (POSITION, position, "mine"),
        (REPORT, fill, "mine"),
    ):  # fmt: skip
        faults.deliver(channel, text, receiver.send, 0, owner)

    assert receiver.got == [fill, new, position, fill]


def test_faults_add_up(faults, deliver):
    faults.add({"kind": "drop", "every": 2}, 0)
    faults.add({"kind": "duplicate"}, 0)

    assert deliver(Receiver(), "abcd") == ["a", "a", "c", "c"]
