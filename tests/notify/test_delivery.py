"""What the outbox holds arrives at Telegram, in order, whatever Telegram does meanwhile."""

from __future__ import annotations

import logging
from functools import partial
from itertools import pairwise

import pytest

from server.notify.channels import Telegram
from server.notify.deliveries import (
    OLD_MS,
    Queued,
    RetryPolicy,
    Trouble,
    Undelivered,
    channel_state,
    cut,
    next_delivery,
)
from server.notify.dispatcher import notifying
from server.settings import load_settings
from server.storage.engine import read
from server.storage.times import now_ms
from tests.notify.bot_api import CHAT, OTHER_CHAT
from tests.waiting import DEADLINE_S

NOW = 1_795_185_128_000


def waiting(id_: int, text: str = "", **facts) -> Queued:
    base = {"id": id_, "created_ms": NOW, "kind": "closed", "text": text or f"message {id_}", "attempts": 0}
    return Queued(**(base | {"next_try_ms": NOW} | facts))


# --- what goes out next -------------------------------------------------------------------------------------------


def test_messages_go_out_one_by_one_in_their_order():
    delivery = next_delivery([waiting(1), waiting(2)], NOW)

    assert (delivery.text, delivery.ids) == ("message 1", (1,))


def test_nothing_overtakes_a_message_that_is_being_tried_again():
    assert next_delivery([waiting(1, next_try_ms=NOW + 1), waiting(2)], NOW) is None


def test_a_time_that_only_a_lying_clock_can_have_set_holds_up_nothing():
    assert next_delivery([waiting(1, next_try_ms=NOW + 400 * 86_400_000)], NOW).text == "message 1"


def test_many_at_once_become_one_message_that_lists_them():
    delivery = next_delivery([waiting(i, f"bot {i}\nmore") for i in range(1, 8)], NOW)

    assert delivery.ids == (1, 2, 3, 4, 5, 6, 7)
    assert delivery.text.splitlines()[:2] == ["7 messages:", "• bot 1 · more"]


def test_a_list_holds_no_more_than_one_message_may_and_the_rest_follows():
    delivery = next_delivery([waiting(i, "€" * 500) for i in range(1, 30)], NOW)

    assert len(delivery.text) < 4096
    assert 0 < len(delivery.ids) < 29
    assert delivery.ids == tuple(range(1, len(delivery.ids) + 1))


def test_what_waited_through_a_downtime_becomes_one_line():
    old = [waiting(i, created_ms=NOW - OLD_MS - 60_000 * i) for i in range(1, 40)]

    delivery = next_delivery([*old, waiting(40)], NOW)

    assert delivery.ids == tuple(range(1, 40))
    assert delivery.text.startswith("39 messages of 11-20 ")
    assert "39 × closed" in delivery.text
    assert "\n" not in delivery.text


@pytest.mark.parametrize("kind", ["daily", "kill_switch", "halted", "fault"])
def test_what_still_matters_is_told_in_full_however_old(kind: str):
    delivery = next_delivery([waiting(1, created_ms=NOW - 2 * OLD_MS, kind=kind)], NOW)

    assert delivery.text == "message 1"


def test_a_long_text_is_cut_as_telegram_counts():
    assert len(cut("😀" * 5000).encode("utf-16-le")) // 2 <= 3900
    assert cut("short") == "short"


# --- when to try again --------------------------------------------------------------------------------------------


def test_pauses_double_up_to_a_limit_and_are_spread_by_chance():
    policy, failure = RetryPolicy(), Undelivered(Trouble.PASSING, "")

    assert [policy.pause_s(failure, n, 1.0) for n in (1, 2, 3, 9, 10, 99)] == [1, 2, 4, 256, 300, 300]
    assert policy.pause_s(failure, 3, 0.0) == 2


def test_telegrams_own_word_on_when_to_come_back_is_kept():
    asked = Undelivered(Trouble.PASSING, "", retry_after_s=37)

    assert RetryPolicy().pause_s(asked, 1, 0.0) == 37


def test_a_refused_token_is_not_hammered():
    assert RetryPolicy().pause_s(Undelivered(Trouble.REFUSED, ""), 1, 0.0) >= 300


# --- over HTTP ----------------------------------------------------------------------------------------------------


def test_a_queued_message_arrives_as_it_is_and_is_marked_sent(house, stand_in, wait_for):
    house.queue("<b>eth</b> *bold* _x_ [a](http://b)")
    house.dispatcher()

    wait_for("it is sent", lambda: house.states() == ["sent"])

    message = stand_in.sent[0]
    assert message["text"] == "<b>eth</b> *bold* _x_ [a](http://b)"
    assert "parse_mode" not in message
    assert message["link_preview_options"] == {"is_disabled": True}
    assert house.rows()[0].sent_ms is not None


def test_each_chat_gets_its_own_and_nobody_elses(house, stand_in, wait_for):
    house.queue("for one")
    house.queue("for the other", channel=OTHER_CHAT)
    house.dispatcher(CHAT, OTHER_CHAT)

    wait_for("both are sent", lambda: house.states() == ["sent", "sent"])

    assert (stand_in.texts(CHAT), stand_in.texts(OTHER_CHAT)) == (["for one"], ["for the other"])


def test_messages_to_one_chat_keep_their_distance(house, stand_in, wait_for, monkeypatch):
    monkeypatch.setattr("server.notify.dispatcher.SPACING_S", 0.5)
    house.queue("a", "b", "c")
    house.dispatcher()

    wait_for("all are sent", lambda: house.states() == ["sent"] * 3)

    assert stand_in.texts() == ["a", "b", "c"]
    times = [m["at"] for m in stand_in.sent]
    assert all(later - earlier >= 0.4 for earlier, later in pairwise(times))


@pytest.mark.parametrize(
    ("trouble", "words"),
    [
        (lambda failed: failed(500, "Internal Server Error"), "Internal Server Error"),
        (lambda failed: failed(502, "Bad Gateway"), "Bad Gateway"),
        (lambda failed: "half", "No answer"),
    ],
)
def test_a_message_is_tried_again_until_it_arrives(house, stand_in, wait_for, failed, trouble, words):
    stand_in.failure = lambda method, body: trouble(failed) if method == "sendMessage" else None
    house.queue("stubborn")
    house.dispatcher()
    wait_for("it was tried several times", lambda: house.rows()[0].attempts >= 3)
    tried = house.rows()[0]

    stand_in.failure = None

    wait_for("it arrives", lambda: house.states() == ["sent"])
    assert words in tried.error
    assert stand_in.texts() == ["stubborn"]


def test_a_message_whose_answer_is_lost_is_sent_again_rather_than_lost(house, stand_in, wait_for):
    def lose_the_first_answer(method: str, body: dict[str, object]) -> str | None:
        if method != "sendMessage" or stand_in.sent:
            return None
        stand_in.sent.append({**body, "message_id": 1})
        return "half"

    stand_in.failure = lose_the_first_answer
    house.queue("at least once")
    house.dispatcher()

    wait_for("it is marked sent", lambda: house.states() == ["sent"])

    assert stand_in.texts() == ["at least once"] * 2


def test_a_dead_telegram_that_comes_back_gets_what_waited(house, stand_in, wait_for):
    stand_in.stop()
    house.queue("patient")
    house.dispatcher()
    wait_for("it was tried", lambda: house.rows()[0].attempts >= 2)

    stand_in.start()

    wait_for("it arrives", lambda: stand_in.texts() == ["patient"])


def test_too_many_requests_are_answered_with_the_pause_that_telegram_asks_for(
    house, stand_in, wait_for, failed, monkeypatch
):
    def busy(method: str, body: object) -> object:
        tries = sum(m == "sendMessage" for m, _ in stand_in.calls)
        limit = failed(429, "Too Many Requests: retry after 60", retry_after=60)
        return limit if method == "sendMessage" and tries == 1 else None

    later = [0]
    monkeypatch.setattr("server.notify.dispatcher.now_ms", lambda: now_ms() + later[0])
    stand_in.failure = busy
    house.queue("polite")
    house.dispatcher()
    wait_for("it was refused once", lambda: house.rows()[0].attempts == 1)
    row = house.rows()[0]

    later[0] = 60_000
    wait_for("it arrives", lambda: house.states() == ["sent"])

    assert "asks to wait 60 s" in row.error
    assert house.rows()[0].sent_ms >= row.next_try_ms
    assert sum(m == "sendMessage" for m, _ in stand_in.calls) == 2


def test_a_message_is_given_up_after_a_bounded_number_of_attempts(house, stand_in, wait_for, failed):
    stand_in.failure = lambda method, body: failed(500, "Oops") if method == "sendMessage" else None
    house.queue("lost")
    house.dispatcher(policy=RetryPolicy(first_s=0.01, most_s=0.01, attempts=3))

    wait_for("it is given up", lambda: house.states() == ["failed"])

    assert "Oops" in house.rows()[0].error
    assert house.rows()[0].attempts == 3


def test_a_message_that_telegram_does_not_accept_does_not_hold_up_the_next(house, stand_in, wait_for, failed):
    stand_in.failure = lambda m, body: (
        failed(400, "Bad Request: message is too long") if body.get("text") == "odd" else None
    )
    house.queue("odd", "fine")
    house.dispatcher()

    wait_for("the second arrives", lambda: house.states() == ["failed", "sent"])


@pytest.mark.parametrize(
    ("code", "description", "advice"),
    [
        (401, "Unauthorized", "Check FLOTILLA_TELEGRAM_TOKEN"),
        (404, "Not Found", "Check FLOTILLA_TELEGRAM_TOKEN"),
        (403, "Forbidden: bot was blocked by the user", "Unblock it"),
        (400, "Bad Request: chat not found", "check its id"),
        (400, "Bad Request: not enough rights to send text messages to the chat", "does not take messages"),
    ],
)
def test_a_refusal_is_said_once_clearly_and_not_hammered(
    house, stand_in, wait_for, failed, capsys, code, description, advice
):
    stand_in.failure = lambda method, body: failed(code, description)
    house.queue("a", "b")
    house.dispatcher()

    wait_for("both are given up", lambda: house.states() == ["failed", "failed"])

    logged = capsys.readouterr()
    assert (logged.out + logged.err).count("telegram_refused") == 1
    assert advice in house.rows()[0].error
    with read(house.engine) as connection:
        assert channel_state(connection, f"telegram:{CHAT}")["state"] == "refused"
    assert sum(m == "sendMessage" for m, _ in stand_in.calls) <= 6


def test_a_restart_in_the_middle_of_the_queue_loses_nothing(house, stand_in, wait_for):
    house.queue(*[f"message {i}" for i in range(5)])
    first = house.dispatcher()
    wait_for("some are sent", lambda: "sent" in house.states())
    first.stop()

    house.dispatcher()

    wait_for("all are sent", lambda: house.states() == ["sent"] * 5)
    assert set(stand_in.texts()) == {f"message {i}" for i in range(5)}


def test_what_piled_up_while_nobody_could_send_does_not_flood_the_phone(house, stand_in, wait_for):
    house.queue(*[f"old {i}" for i in range(40)], age_s=3600)
    house.queue("fresh")
    house.dispatcher()

    wait_for("all is sent", lambda: house.states() == ["sent"] * 41)

    assert [text.partition(" of ")[0] for text in stand_in.texts()] == ["40 messages", "fresh"]


def test_the_end_waits_for_what_can_still_go_out_and_listens_to_nobody(house, stand_in, monkeypatch):
    monkeypatch.setattr("server.notify.dispatcher.DRAIN_S", DEADLINE_S)
    house.queue(*[f"message {i}" for i in range(4)])

    with notifying(house.settings, house.engine, drain=True):
        pass

    assert house.states() == ["sent"] * 4
    assert {method for method, _ in stand_in.calls} == {"sendMessage"}


def test_the_end_does_not_wait_for_a_telegram_that_hangs(house, stand_in, wait_for):
    stand_in.failure = lambda method, body: 600 if method == "sendMessage" else None
    house.queue("stuck")
    dispatcher = house.dispatcher(make=partial(Telegram, answer_s=600))
    wait_for("it is on its way", lambda: any(m == "sendMessage" for m, _ in stand_in.calls))

    dispatcher.stop(drain_s=0.1)
    dispatcher._thread.join(DEADLINE_S)

    assert not dispatcher._thread.is_alive()
    assert house.states() == ["queued"]


def test_the_token_is_in_no_log_line_and_no_row(house, stand_in, wait_for, failed, capsys, caplog):
    caplog.set_level(logging.DEBUG)
    secret = stand_in.token.partition(":")[2]
    stand_in.failure = lambda method, body: failed(401, f"Unauthorized: {stand_in.token}")
    house.queue("a")
    house.dispatcher()
    wait_for("it is given up", lambda: house.states() == ["failed"])
    stand_in.failure = None
    house.queue("b")
    wait_for("it arrives", lambda: house.states()[-1] == "sent")

    logged = capsys.readouterr()
    assert "telegram_refused" in logged.out + logged.err
    assert secret not in logged.out + logged.err + caplog.text
    assert secret not in str(house.rows())
    assert secret not in repr(house.settings)


def test_what_waits_for_a_chat_that_is_no_longer_set_up_is_dropped(house):
    house.queue("for nobody", channel=OTHER_CHAT)
    settings = load_settings({"FLOTILLA_HOME": str(house.settings.home)})
    with notifying(settings, house.engine) as dispatcher:
        assert dispatcher is None

    assert house.states() == ["dropped"]
