"""Say whether a model file can be used: ``python -m bots.utils.check_model FILE`` prints one JSON line, exit code 0.

Always run in a process of its own: a damaged text can kill it inside LightGBM's library, and no line is an answer too.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from bots.core.feature_engineering import FEATURES, SCHEMA
from bots.core.predictor import Predictor
from shared.errors import FlotillaError


def check(path: Path) -> dict[str, Any]:
    """The answer as a JSON object: ``ok`` with what the model is, or the reason why it cannot be used."""
    try:
        model = Predictor(path.read_bytes())
        probability = model.probability([0.0] * len(FEATURES))
    except OSError as error:
        return {"ok": False, "reason": f"{path} cannot be read: {error.strerror}."}
    except FlotillaError as error:
        return {"ok": False, "reason": error.message}
    if not 0.0 <= probability <= 1.0:
        return {"ok": False, "reason": f"The model answers {probability}, which is no probability. Train it again."}
    return {"ok": True, "trees": model.trees, "features": list(FEATURES), "schema_version": SCHEMA}


def main(arguments: list[str]) -> int:
    """Answer on what was stdout; whatever the library prints goes to stderr."""
    if len(arguments) != 1:
        print("usage: python -m bots.utils.check_model FILE", file=sys.stderr)
        return 2
    with os.fdopen(os.dup(1), "w") as answer:
        os.dup2(2, 1)
        print(json.dumps(check(Path(arguments[0]))), file=answer)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
