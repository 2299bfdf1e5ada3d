"""Train a model for the LightGBM scalper: candles → features and labels → model, scored on later data it never saw.

The same input gives the same model, byte for byte: fixed seed, LightGBM's deterministic mode, histograms built per
column (so that the number of threads does not matter).
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from bots.core.candles import SECOND_MS, WINDOW, Window
from bots.core.feature_engineering import FEATURE_NAMES_IN_MODEL, FEATURES, SCHEMA, compute
from bots.core.predictor import Predictor
from research.candles import Candles, CandlesUnusable, OnProgress
from research.labels import UNKNOWN, label
from research.scores import scores
from shared.errors import FlotillaError

TREES: Final = 100
TRAIN_SHARE: Final = 0.75
FEWEST_TESTED: Final = 40
PARAMETERS: Final[dict[str, Any]] = {
    "objective": "binary",
    "num_leaves": 15,
    "learning_rate": 0.03,
    "lambda_l2": 10.0,
    "feature_fraction": 0.5,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "seed": 7,
    "deterministic": True,
    "force_col_wise": True,
    "num_threads": 2,
    "verbosity": -1,
}


LEAF_SHARE: Final = 25
"""A leaf holds at least one row in so many: neighbours share most of their horizon, so a small leaf is one event."""


class CannotTrain(FlotillaError):
    """The data does not allow a model; the message has the figures and the remedy."""

    code = "cannot_train"


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What to foresee. *horizon* and *signal_interval* in s, *target* and *stop* as fractions of the price."""

    symbol: str
    horizon: int
    target: float
    stop: float
    signal_interval: int


@dataclass(frozen=True, slots=True)
class Dataset:
    """One row per decision, oldest first: its time, features and label."""

    end_ms: np.ndarray[Any, np.dtype[np.int64]]
    features: np.ndarray[Any, np.dtype[np.float64]]
    labels: np.ndarray[Any, np.dtype[np.float64]]


def train(candles: Candles, task: Task, out: Path, on_progress: OnProgress) -> dict[str, Any]:
    """Write the model to *out* and its description beside it (.json); returns the description."""
    data = dataset(candles, task, on_progress)
    before, after = split(data, task)
    booster_text = fit(data.features[before], data.labels[before], on_progress)
    model = Predictor(booster_text)  # the one that trades also gives the scores
    probabilities = np.array([model.probability(row) for row in data.features[after].tolist()])
    description = {
        "symbol": task.symbol,
        "model_sha256": hashlib.sha256(booster_text).hexdigest(),
        "schema_version": SCHEMA,
        "features": list(FEATURES),
        "trees": model.trees,
        "task": asdict(task),
        "split": {"train": _span(data, before), "test": _span(data, after), "purged_s": purge_s(task)},
        "scores": scores(data.labels[after], probabilities),
        "scores_in_sample": _in_sample(model, data, before),
        "data_digest": candles.digest,
        "candles": {
            "count": len(candles),
            "first_ms": int(candles.open_ms[0]),
            "last_ms": int(candles.open_ms[-1]),
            "missing": int((candles.open_ms[-1] - candles.open_ms[0]) // SECOND_MS) + 1 - len(candles),
        },
        "parameters": {**_parameters(before.stop), "num_iterations": TREES},
    }
    _write(out, booster_text)
    _write(description_path(out), json.dumps(description, indent=2).encode() + b"\n")
    return description


def description_path(model: Path) -> Path:
    """Where the description of a model file lies."""
    return model.with_suffix(".json")


def dataset(candles: Candles, task: Task, on_progress: OnProgress) -> Dataset:
    """Features by the core's own function at each decision, with labels. Raises `CandlesUnusable`."""
    labels = label(
        candles.open_ms,
        candles.column("high"),
        candles.column("low"),
        candles.column("close"),
        horizon=task.horizon,
        target=task.target,
        stop=task.stop,
    ).tolist()
    window = Window()
    due_ms = task.signal_interval * SECOND_MS
    times, rows, kept = [], [], []
    for n, candle in enumerate(candles):
        window.push(candle)
        if window.full and candle.end_ms % due_ms == 0 and labels[n] != UNKNOWN:
            times.append(candle.end_ms)
            rows.append(compute(window))
            kept.append(float(labels[n]))
        if n % 5_000 == 0:
            on_progress("features", n, len(candles))
    on_progress("features", len(candles), len(candles))
    fewest = fewest_rows(task)
    if len(rows) < fewest:
        needed = WINDOW + task.horizon + fewest * task.signal_interval
        raise CandlesUnusable(
            f"Too few candles: {len(candles)} give {len(rows)} decisions with a full {WINDOW} s window before and a "
            f"full {task.horizon} s horizon after them; {fewest} are the least. Give {needed} in a row or more."
        )
    return Dataset(np.array(times), np.array(rows), np.array(kept))


def purge_s(task: Task) -> int:
    """Seconds left out between training and test: no label or window of one may reach into the other."""
    return task.horizon + WINDOW


def fewest_rows(task: Task) -> int:
    """So many decisions leave `FEWEST_TESTED` for the test behind the purge gap."""
    return math.ceil((FEWEST_TESTED + purge_s(task) / task.signal_interval) / (1 - TRAIN_SHARE))


def split(data: Dataset, task: Task) -> tuple[slice, slice]:
    """Rows to train on, and later rows to score on, with the purge gap between them. Raises `CannotTrain`."""
    count = len(data.end_ms)
    cut = int(count * TRAIN_SHARE)
    test_starts_ms = data.end_ms[cut - 1] + purge_s(task) * SECOND_MS
    before, after = slice(0, cut), slice(int(np.searchsorted(data.end_ms, test_starts_ms, side="right")), count)
    for rows, name in ((before, "first"), (after, "last")):
        part = data.labels[rows]
        hits = int(part.sum())
        task_text = f"the target of {task.target:g} within {task.horizon} s before a stop of {task.stop:g}"
        if hits == 0:
            raise CannotTrain(
                f"None of the {len(part)} decisions in the {name} part reaches {task_text}. "
                "Lower --target, lengthen --horizon or give more candles."
            )
        if hits == len(part):
            raise CannotTrain(
                f"All {len(part)} decisions in the {name} part reach {task_text}. "
                "Raise --target, shorten --horizon or give more candles."
            )
    return before, after


def fit(
    features: np.ndarray[Any, np.dtype[np.float64]],
    labels: np.ndarray[Any, np.dtype[np.float64]],
    on_progress: OnProgress,
) -> bytes:
    """The text of a model trained on these rows."""
    import lightgbm  # slow to import, and only needed here

    def report(env: Any) -> None:
        on_progress("train", env.iteration + 1, TREES)

    data = lightgbm.Dataset(features, labels, feature_name=list(FEATURE_NAMES_IN_MODEL), free_raw_data=False)
    booster = lightgbm.train(_parameters(len(labels)), data, num_boost_round=TREES, callbacks=[report])
    return str(booster.model_to_string()).encode()


def _parameters(rows: int) -> dict[str, Any]:
    return {**PARAMETERS, "min_data_in_leaf": max(20, rows // LEAF_SHARE)}


def _in_sample(model: Predictor, data: Dataset, rows: slice) -> dict[str, Any]:
    probabilities = np.array([model.probability(row) for row in data.features[rows].tolist()])
    full = scores(data.labels[rows], probabilities)
    return {name: full[name] for name in ("rows", "base_rate", "logloss", "auc")}


def _span(data: Dataset, rows: slice) -> dict[str, int]:
    times = data.end_ms[rows]
    return {"rows": len(times), "first_ms": int(times[0]), "last_ms": int(times[-1])}


def _write(path: Path, content: bytes) -> None:
    draft = path.with_name(path.name + ".part")
    try:
        draft.write_bytes(content)
        os.replace(draft, path)
    except OSError as error:
        raise CannotTrain(f"{path} cannot be written: {error.strerror}. Choose another --out.") from None
