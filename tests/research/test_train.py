from __future__ import annotations

import hashlib
import json
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from bots.core.feature_engineering import FEATURES, SCHEMA
from bots.core.predictor import Predictor
from research.__main__ import main
from research.candles import HEADER, read
from research.train import CannotTrain, Dataset, Task, dataset, fewest_rows, purge_s, split, train
from shared.events import decode_line, from_data

DATA = Path(__file__).parents[3] / "shared" / "data"
TASK = Task(symbol="BTCUSDT", horizon=20, target=0.00015, stop=0.0003, signal_interval=2)
NOON_MS = 1_700_049_600_000


def silent(step, done, total):
    pass


def a_market(folder, seconds: int, seed: int = 1):
    """A file in which takers' flow foretells the next seconds."""
    chance, price, pull = random.Random(seed), 60_000.0, 0.0
    path = folder / f"market-{seconds}-{seed}.csv"
    with path.open("w") as out:
        print(*HEADER, sep=",", file=out)
        for n in range(seconds):
            pull = 0.95 * pull + chance.gauss(0, 0.5)
            before, price = price, round(price * (1 + (pull + chance.gauss(0, 0.5)) * 1e-5), 2)
            volume = round(chance.random() + 0.1, 5)
            buys = round(volume * min(1.0, max(0.0, 0.5 + 0.2 * pull)), 5)
            high, low = max(before, price), min(before, price)
            row = [NOON_MS + n * 1000, before, high, low, price, volume, volume * price, 7, buys, buys * price]
            print(*row, sep=",", file=out)
    return path


@pytest.fixture(scope="module")
def market(tmp_path_factory):
    return a_market(tmp_path_factory.mktemp("market"), 5400)


@pytest.fixture(scope="module")
def trained(market, tmp_path_factory):
    out = tmp_path_factory.mktemp("model") / "model.txt"
    return out, train(read(market), TASK, out, silent)


def test_the_model_that_is_written_is_one_that_a_bot_accepts(trained):
    out, description = trained

    model = Predictor(out.read_bytes())

    assert model.trees == description["trees"] == 100
    assert hashlib.sha256(out.read_bytes()).hexdigest() == description["model_sha256"]


def test_it_foresees_a_market_in_which_flow_leads_the_price(trained):
    _, description = trained
    scores = description["scores"]

    assert scores["auc"] > 0.65
    assert scores["logloss"] < scores["logloss_base_rate"]


def test_the_description_lies_beside_the_model(trained, market):
    out, description = trained

    written = json.loads(out.with_suffix(".json").read_text())

    assert written == json.loads(json.dumps(description))
    assert written["features"] == list(FEATURES)
    assert written["schema_version"] == SCHEMA
    assert written["data_digest"] == read(market).digest
    assert written["task"]["horizon"] == 20
    assert written["split"]["test"]["first_ms"] - written["split"]["train"]["last_ms"] > 80_000


def test_the_same_input_gives_the_same_bytes(trained, market, tmp_path):
    out, description = trained

    again = train(read(market), TASK, tmp_path / "again.txt", silent)

    assert (tmp_path / "again.txt").read_bytes() == out.read_bytes()
    assert again == description


def test_decisions_fall_where_a_bots_would_and_unknown_outcomes_are_left_out(market):
    data = dataset(read(market), TASK, silent)

    assert data.end_ms[0] == NOON_MS + 60_000
    assert data.end_ms[-1] == NOON_MS + (5400 - 20) * 1000
    assert (data.end_ms % 2000 == 0).all()
    assert data.features.shape == (len(data.labels), 24)


def test_between_training_and_test_lies_a_gap_of_horizon_and_window():
    ends = np.arange(2000) * 2000
    data = Dataset(ends, np.zeros((2000, 24)), np.arange(2000) % 2.0)

    before, after = split(data, TASK)

    assert (before.start, before.stop, after.stop) == (0, 1500, 2000)
    assert purge_s(TASK) == 80
    assert data.end_ms[after][0] - data.end_ms[before][-1] == 82_000  # the first decision more than 80 s later


@pytest.mark.parametrize(("outcome", "words"), [(0.0, "None of the 1500 decisions"), (1.0, "All 1500 decisions")])
def test_one_kind_of_outcome_cannot_be_learned_from(outcome, words):
    data = Dataset(np.arange(2000) * 2000, np.zeros((2000, 24)), np.full(2000, outcome))

    with pytest.raises(CannotTrain, match=words):
        split(data, TASK)


def test_as_many_candles_as_are_asked_for_are_enough(tmp_path):
    task = replace(TASK, horizon=30)
    assert fewest_rows(task) == 340  # 4 · (40 + (30 + 60) / 2)

    data = dataset(read(a_market(tmp_path, 60 + 30 + 340 * 2)), task, silent)

    assert len(data.labels) >= 340
    _, after = split(data, task)
    assert after.stop - after.start >= 40


def run(*arguments):
    return CliRunner().invoke(main, ["train", *map(str, arguments)])


def test_as_json_progress_and_result_are_lines_of_a_worker(market, tmp_path):
    answer = run("--candles", market, "--symbol", "BTCUSDT", "--json", "--out", tmp_path / "m.txt")

    assert answer.exit_code == 0, answer.output
    lines = [decode_line(line.encode()) for line in answer.stdout.splitlines()]
    assert [line.seq for line in lines] == list(range(1, len(lines) + 1))
    assert {line.type for line in lines[:-1]} == {"progress"}
    result = from_data(lines[-1].type, lines[-1].data)
    assert result.data["model"] == str(tmp_path / "m.txt")
    assert 0 < result.data["scores"]["auc"] < 1


def test_for_people_it_prints_the_scores(market, tmp_path):
    answer = run("--candles", market, "--symbol", "BTCUSDT", "--out", tmp_path / "m.txt")

    assert answer.exit_code == 0, answer.output
    assert "AUC 0." in answer.output
    assert "hit rate" in answer.output


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--candles", "none.csv"], "none.csv cannot be read: No such file or directory"),
        (["--candles", "short"], "Too few candles: 300 give 106 decisions"),
        (
            ["--candles", "long", "--target", "0.4"],
            "None of the 1992 decisions in the first part reaches the target of 0.4",
        ),
        (["--candles", "long", "--out", "no-such-folder/m.txt"], "The folder no-such-folder does not exist"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence_and_nothing_is_written(market, tmp_path, options, sentence):
    files = {"short": str(a_market(tmp_path, 300)), "long": str(market)}
    options = [files.get(option, option) for option in options]
    out = [] if "--out" in options else ["--out", tmp_path / "m.txt"]

    answer = run("--symbol", "BTCUSDT", *out, *options)

    assert answer.exit_code == 1
    assert sentence in answer.stderr
    assert not (tmp_path / "m.txt").exists()


def test_as_json_a_failure_is_an_error_line(tmp_path):
    answer = run("--candles", "none.csv", "--symbol", "BTCUSDT", "--json", "--out", tmp_path / "m.txt")

    line = decode_line(answer.stdout.encode())
    assert (answer.exit_code, line.type, line.data["kind"]) == (1, "error", "candles_unusable")


def test_a_recorded_market_can_be_trained_on(tmp_path):
    path = DATA / "BTCUSDT-spot-20240808T2354-1s.csv.gz"
    if not path.exists():
        pytest.skip(f"no recorded data at {path}")

    answer = run("--candles", path, "--symbol", "BTCUSDT", "--signal-interval", 1, "--out", tmp_path / "m.txt")

    assert answer.exit_code == 0, answer.output
    assert Predictor((tmp_path / "m.txt").read_bytes()).trees > 0
