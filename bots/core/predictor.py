"""A LightGBM model's probability for one row of features.

Calls the C library inside the installed lightgbm package directly: `import lightgbm` would bring numpy and scipy and
cost every bot some 35 MiB, and its `predict` takes four times as long. The result is the same, bit for bit.
"""

from __future__ import annotations

import ctypes
import importlib.util
import re
import sys
import weakref
from collections.abc import Sequence
from functools import cache
from struct import Struct
from typing import Any, Final

from bots.core.feature_engineering import FEATURE_NAMES_IN_MODEL, SCHEMA
from shared.errors import FlotillaError, Refused

_NORMAL: Final = 0  # C_API_PREDICT_NORMAL: a probability, not a raw score
_FLOAT64: Final = 1  # C_API_DTYPE_FLOAT64
_ALL_TREES: Final = -1
_PROBABILITY_OBJECTIVES: Final = ("binary", "cross_entropy")
_RETRAIN: Final = "Train it with `python -m research train`."


class ModelRefused(Refused):
    """The model cannot be used; the message says why and what to do."""

    code = "model_refused"


class Predictor:
    """Holds one loaded model, for use by one thread.

    *model_text* must be bytes whose SHA-256 was compared with the registry's: LightGBM's parser can kill the process on
    a damaged text. The structure is checked before the library sees it, but that catches only cut and foreign files.
    Raises `ModelRefused` if it is no binary model of exactly the present features.
    """

    def __init__(self, model_text: bytes) -> None:
        self.trees = _check_structure(model_text)
        library = _library()
        booster, fast = ctypes.c_void_p(), ctypes.c_void_p()
        loaded = ctypes.c_int()
        _call(library, "LGBM_BoosterLoadModelFromString", model_text, ctypes.byref(loaded), ctypes.byref(booster))
        weakref.finalize(self, _free, library, booster, fast)
        self.feature_names = _feature_names(library, booster)
        _check_names(self.feature_names)
        _call(
            library,
            "LGBM_BoosterPredictForMatSingleRowFastInit",
            booster,
            ctypes.c_int(_NORMAL),
            ctypes.c_int(0),
            ctypes.c_int(_ALL_TREES),
            ctypes.c_int(_FLOAT64),
            ctypes.c_int32(len(self.feature_names)),
            b"num_threads=1 verbosity=-1",
            ctypes.byref(fast),
        )

        row = (ctypes.c_double * len(self.feature_names))()
        self._row = memoryview(row).cast("B")
        self._pack_into = Struct(f"={len(self.feature_names)}d").pack_into
        self._result = ctypes.c_double()
        self._predict = library.LGBM_BoosterPredictForMatSingleRowFast
        # Pointers made once: building them anew would cost more than the prediction.
        self._fast = fast
        self._row_pointer = ctypes.cast(row, ctypes.c_void_p)
        self._length = ctypes.c_int64()
        self._length_pointer = ctypes.cast(ctypes.byref(self._length), ctypes.c_void_p)
        self._result_pointer = ctypes.cast(ctypes.byref(self._result), ctypes.c_void_p)

    def probability(self, features: Sequence[float]) -> float:
        """The model's probability for *features*, in the order of `FEATURES`."""
        self._pack_into(self._row, 0, *features)
        if self._predict(self._fast, self._row_pointer, self._length_pointer, self._result_pointer):
            raise FlotillaError(f"LightGBM could not predict: {_last_error(_library())}.")
        return self._result.value


def _check_structure(model_text: bytes) -> int:
    """How many trees the text has; refuses one that is cut, foreign, or not a model of a probability."""
    if not model_text.startswith(b"tree\n"):
        raise ModelRefused(
            'The file is not a LightGBM text model: it does not start with "tree". '
            "Upload the file that `Booster.save_model` wrote."
        )
    start, end = model_text.find(b"\nTree=0\n") + 1, model_text.find(b"\nend of trees")
    sizes = re.search(rb"\ntree_sizes=([\d ]+)\n", model_text[:start])
    rest = model_text[end:]
    is_cut = b"\nfeature_importances:" in rest and b"\nend of parameters" not in rest
    if not start or end < 0 or sizes is None or is_cut or not model_text.endswith(b"\n"):
        raise ModelRefused("The model is cut off or holds no tree. Upload the complete file again.")
    expected = [int(size) for size in sizes[1].split()]
    found = model_text.count(b"\nTree=", 0, end)
    # Each size counts its tree with the line break after it; "end of trees" follows the last.
    if found != len(expected) or sum(expected) != end + 1 - start:
        raise ModelRefused(
            f"The model states {len(expected)} trees in {sum(expected)} bytes but holds {found} in "
            f"{end + 1 - start}: it is damaged. Upload the complete file again."
        )
    objective = re.search(rb"\nobjective=(\S+)", model_text[:start])
    name = objective[1].decode("ascii", "replace") if objective else "none"
    if name not in _PROBABILITY_OBJECTIVES:
        raise ModelRefused(
            f'The model\'s objective is "{name}", which gives no probability. Train it with the objective "binary".'
        )
    return found


def _check_names(names: tuple[str, ...]) -> None:
    if names == FEATURE_NAMES_IN_MODEL:
        return
    schemas = {name.split(".", 1)[0] for name in names if re.match(r"v\d+\.", name)}
    if schemas and SCHEMA not in schemas:
        raise ModelRefused(
            f"The model was trained on feature schema {', '.join(sorted(schemas))}, "
            f"this version computes {SCHEMA}. {_RETRAIN}"
        )
    missing = [name for name in FEATURE_NAMES_IN_MODEL if name not in names]
    extra = [name for name in names if name not in FEATURE_NAMES_IN_MODEL]
    if not missing and not extra:
        raise ModelRefused(f"The model has the right features in another order. {_RETRAIN}")
    parts = [f"{what} {', '.join(those)}" for what, those in (("missing:", missing), ("unknown:", extra)) if those]
    raise ModelRefused(
        f"The model's features are not the {len(FEATURE_NAMES_IN_MODEL)} that a bot computes; "
        f"{'; '.join(parts)}. {_RETRAIN}"
    )


def _feature_names(library: Any, booster: ctypes.c_void_p) -> tuple[str, ...]:
    count = ctypes.c_int()
    _call(library, "LGBM_BoosterGetNumFeature", booster, ctypes.byref(count))
    size = 256
    while True:
        buffers = [ctypes.create_string_buffer(size) for _ in range(count.value)]
        pointers = (ctypes.c_char_p * count.value)(*(ctypes.cast(buffer, ctypes.c_char_p) for buffer in buffers))
        needed, written = ctypes.c_size_t(), ctypes.c_int()
        _call(
            library,
            "LGBM_BoosterGetFeatureNames",
            booster,
            count,
            ctypes.byref(written),
            ctypes.c_size_t(size),
            ctypes.byref(needed),
            pointers,
        )
        if needed.value <= size:
            return tuple(buffer.value.decode("utf-8", "replace") for buffer in buffers)
        size = needed.value


@cache
def _library() -> Any:
    package = importlib.util.find_spec("lightgbm")
    if package is None or not package.submodule_search_locations:
        raise FlotillaError("The package lightgbm is not installed; install requirements.txt.")
    folder = package.submodule_search_locations[0]
    name = {"darwin": "lib_lightgbm.dylib", "win32": "lib_lightgbm.dll"}.get(sys.platform, "lib_lightgbm.so")
    try:
        library = ctypes.CDLL(f"{folder}/lib/{name}")
    except OSError as error:
        raise FlotillaError(
            f"LightGBM's library does not load ({error}). On Debian and Ubuntu it needs the package "
            "libgomp1: apt-get install libgomp1."
        ) from None
    library.LGBM_GetLastError.restype = ctypes.c_char_p
    return library


def _call(library: Any, name: str, *arguments: Any) -> None:
    if getattr(library, name)(*arguments):
        raise ModelRefused(f"LightGBM refuses the model: {_last_error(library)}. Upload the complete file again.")


def _free(library: Any, booster: ctypes.c_void_p, fast: ctypes.c_void_p) -> None:
    if fast:
        library.LGBM_FastConfigFree(fast)  # before the booster, which it reads
    library.LGBM_BoosterFree(booster)


def _last_error(library: Any) -> str:
    text: bytes = library.LGBM_GetLastError()
    return text.decode("utf-8", "replace").strip().rstrip(".")
