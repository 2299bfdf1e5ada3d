"""What a scenario may say, and the sentence where it may not."""

from __future__ import annotations

import pytest

from simulator.faults.kinds import Balance, Silence
from simulator.scenario import BadScenario, read_script
from simulator.scenario.script import When, derived_key

START = 1_800_000_000_000  # 2027-01-15T08:00:00Z
SYMBOLS = ("BTCUSDT", "ETHUSDT")


@pytest.fixture
def read(tmp_path):
    def read(text: str):
        path = tmp_path / "run.yaml"
        path.write_text(text)
        return read_script(path, START, 7, SYMBOLS)

    return read


def test_a_whole_scenario(read):
    script = read("""
accounts:
  - name: maker
    balances: {USDT: 10000, BTC: "0.5"}
    fees: {maker: 0, taker: "0.00075"}
  - {name: taker, balances: {USDT: 5}, pays_in_bnb: true, can_trade: false}
faults:
  - at: 2027-01-15T08:00:10Z
    fault: {kind: silence, stream: kline_1s, seconds: 5}
  - {at: 2.5, every: 60, times: 3, fault: {kind: balance, account: maker, asset: btc, amount: -0.1}}
orders:
  - at: 1
    account: maker
    place: {symbol: BTCUSDT, side: BUY, type: LIMIT, timeInForce: GTC, quantity: 0.00001, price: 40000.10}
  - {at: 2, every: 1, account: maker, cancel: {symbol: BTCUSDT, origClientOrderId: order-0-0}}
""")
    maker, taker = script.accounts
    assert (maker.deposits, maker.maker_ppm, maker.taker_ppm) == ({"USDT": 10**12, "BTC": 5 * 10**7}, 0, 750)
    assert (taker.pays_in_bnb, taker.can_trade, taker.maker_ppm) == (True, False, -1)
    silence, balance = script.faults
    assert (silence.when, silence.fault) == (When(START + 10_000), Silence(stream="kline_1s", seconds=5.0))
    assert balance.when == When(START + 2500, 60_000, 3)
    assert balance.fault == Balance(api_key=maker.api_key, asset="BTC", amount="-0.1")
    place, cancel = script.orders
    assert (place.path, place.api_key, place.ws_method) == ("orders[0]", maker.api_key, "order.place")
    assert (place.params["quantity"], place.params["price"]) == ("0.00001", "40000.1")
    assert (cancel.when, cancel.ws_method) == (When(START + 2000, 1000, None), "order.cancel")


def test_keys_follow_from_seed_and_name(read):
    account = read("accounts: [{name: maker, balances: {USDT: 1}}]").accounts[0]

    assert account.api_key == derived_key(7, "maker", "api_key")
    assert account.api_secret == derived_key(7, "maker", "api_secret")
    keys = {derived_key(seed, name, use) for seed in (7, 8) for name in "ab" for use in ("api_key", "api_secret")}
    assert len(keys) == 8
    assert all(len(key) == 64 and key.isalnum() and key.isascii() for key in keys)


def test_keys_may_be_given(read):
    given = read(f"accounts: [{{name: a, balances: {{USDT: 1}}, api_key: {'k' * 64}, api_secret: {'s' * 64}}}]")

    assert (given.accounts[0].api_key, given.accounts[0].api_secret) == ("k" * 64, "s" * 64)


ACCOUNT = "accounts: [{name: me, balances: {USDT: 1}}]\n"
PLACE = "place: {symbol: BTCUSDT, side: BUY, type: MARKET, quantity: 1}"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "run.yaml: the document is None: give a mapping with accounts, faults, orders."),
        ("- 1", "run.yaml: the document is [1]: give a mapping"),
        ("mood: 1", "run.yaml: mood is not known: give accounts, faults, orders."),
        ("faults: {}", "run.yaml: faults is {}: give a list."),
        ("faults: [1]", "run.yaml: faults[0] is 1: give a mapping with at, fault, every, times."),
        ("faults: [{at: 1}]", "run.yaml: faults[0] lacks fault: add it."),
        ("faults: [{at: 1, fault: {}}]", "run.yaml: faults[0].fault is {}: give a fault with its kind."),
        ("faults: [{at: 1, fault: {kind: rain}}]", "run.yaml: faults[0].fault: kind is 'rain': give one of lose_ack,"),
        ("faults: [{at: 1, fault: {kind: halt, symbol: XYZ}}]",
         "run.yaml: faults[0].fault.symbol is 'XYZ': give one of BTCUSDT, ETHUSDT."),
        ("faults: [{at: 1, fault: {kind: deafen, account: me}}]",
         "run.yaml: faults[0].fault.account is 'me': give the name of one of the accounts: none yet, add it"),
        ("faults: [{at: -1, fault: {kind: day_cut}}]", "run.yaml: faults[0].at is -1: give seconds from 0 to"),
        ("faults: [{at: .nan, fault: {kind: day_cut}}]", "run.yaml: faults[0].at is nan: give a number of seconds."),
        ("faults: [{at: true, fault: {kind: day_cut}}]", "run.yaml: faults[0].at is True: give a number of seconds."),
        ("faults: [{at: soon, fault: {kind: day_cut}}]", "run.yaml: faults[0].at is 'soon': give seconds after the"),
        ("faults: [{at: 2027-01-15T09:00:00, fault: {kind: day_cut}}]", "at is '2027-01-15T09:00:00': add the time z"),
        ("faults: [{at: 2027-01-15T07:59:59Z, fault: {kind: day_cut}}]",
         "faults[0].at is '2027-01-15T07:59:59Z': the market starts at 2027-01-15T08:00:00+00:00; give a later time."),
        ("faults: [{at: 1, times: 2, fault: {kind: day_cut}}]", "faults[0].times is 2: give every beside it"),
        ("faults: [{at: 1, every: 0, fault: {kind: day_cut}}]", "faults[0].every is 0: give seconds from 0.001"),
        ("faults: [{at: 1, every: 1, times: 0, fault: {kind: day_cut}}]", "faults[0].times is 0: give a whole number"),
        ("accounts: [{name: '', balances: {USDT: 1}}]", "accounts[0].name is '': give a name of 1 to 100 characters."),
        ("accounts: [{name: a, balances: {}}]", "accounts[0].balances is {}: give assets with amounts"),
        ("accounts: [{name: a, balances: {usdt: 1}}]", "accounts[0].balances.usdt is 1: 'usdt' is not an asset"),
        ("accounts: [{name: a, balances: {USDT: -1}}]", "accounts[0].balances.USDT is -1: give a decimal"),
        ("accounts: [{name: a, balances: {USDT: 1}, api_key: abc}]", "accounts[0].api_key is 'abc': give 64 letters"),
        ("accounts: [{name: a, balances: {USDT: 1}, fees: {maker: 1}}]", "accounts[0].fees.maker is 1: give a frac"),
        ("accounts: [{name: a, balances: {USDT: 1}, can_trade: 1}]", "accounts[0].can_trade is 1: give true or false."),
        ("accounts: [{name: a, balances: {USDT: 1}}, {name: a, balances: {USDT: 1}}]", "accounts[1] is 'a' again"),
        (ACCOUNT + "orders: [{at: 1, account: you, " + PLACE + "}]",
         "orders[0].account is 'you': give the name of one of the accounts: me."),
        (ACCOUNT + "orders: [{at: 1, account: me}]", "orders[0] needs one of place,"),
        (ACCOUNT + "orders: [{at: 1, account: me, place: {symbol: BTCUSDT}, cancel: {symbol: BTCUSDT}}]",
         "orders[0] needs one of place,"),
        (ACCOUNT + "orders: [{at: 1, account: me, place: {side: BUY}}]", "orders[0].place lacks symbol: add it."),
        (ACCOUNT + "orders: [{at: 1, account: me, place: {symbol: XYZ}}]", "orders[0].place.symbol is 'XYZ': give one"),
        (ACCOUNT + "orders: [{at: 1, account: me, place: {symbol: BTCUSDT, colour: red}}]",
         "orders[0].place.colour is not known: give icebergQty,"),
        (ACCOUNT + "orders: [{at: 1, account: me, place: {symbol: BTCUSDT, timestamp: 1}}]",
         "orders[0].place.timestamp is not known"),
        (ACCOUNT + "orders: [{at: 1, account: me, place: {symbol: BTCUSDT, price: []}}]",
         "orders[0].place.price is []: give a text or a number."),
        ("faults: [", "run.yaml line 1, column 10 is not readable:"),
        ("faults: 1\nfaults: 2", "run.yaml line 2, column 1 is not readable: 'faults' stands there twice."),
        ("1: 2", "run.yaml line 1, column 1 is not readable: 1 is no text to name a field."),
        ("a: !!python/object/apply:os.system ['true']", "run.yaml line 1, column 4 is not readable: could not"),
        ("? [a]\n: 1", "run.yaml line 1, column 3 is not readable: ['a'] is no text to name a field."),
        ("x: &a [*a]", "x is not known"),
        ("[" * 5000, "run.yaml is not readable: "),
        ("a: \x00", "run.yaml is not readable: "),
    ],
)  # fmt: skip
def test_a_bad_file_is_one_sentence_with_its_place_in_it(read, text, sentence):
    with pytest.raises(BadScenario) as refused:
        read(text)

    assert sentence in str(refused.value)
    assert str(refused.value).endswith(".")
    assert "\n" not in str(refused.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(BadScenario, match=r"Cannot read .*none.yaml: No such file or directory. Give another"):
        read_script(tmp_path / "none.yaml", START, 7, SYMBOLS)
    (tmp_path / "big.yaml").write_text("#" * (2 << 20))
    with pytest.raises(BadScenario, match="is larger than 1048576 bytes"):
        read_script(tmp_path / "big.yaml", START, 7, SYMBOLS)
