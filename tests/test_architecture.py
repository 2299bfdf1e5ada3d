"""The arrows between the rooms, as docs/architecture.md draws them, and a core without clocks, sockets or chance."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ["bots", "research", "server", "shared", "simulator"]
CORE = ROOT / "bots" / "core"
NAMED_IN_CONTRACTS = [*ROOMS, "bots/core", "bots/market", "bots/reporters", "bots/strategies", "bots/trading"]

FORBIDDEN_IN_CORE = {
    "aiohttp", "asyncio", "calendar", "concurrent", "flask", "http", "io", "logging", "multiprocessing", "os",
    "pathlib", "queue", "random", "requests", "sched", "secrets", "select", "selectors", "shutil", "signal", "socket",
    "sqlite3", "ssl", "structlog", "subprocess", "tempfile", "threading", "time", "urllib", "uuid", "websockets",
}  # fmt: skip
FORBIDDEN_CALLS = {"open", "input", "print", "exec", "eval", "__import__"}
CLOCK_READS = {"now", "utcnow", "today"}

# Loading a model is the one thing of the core that needs a file: LightGBM's C library opens it by its path.
ALLOWED = {"predictor.py": {"os", "pathlib"}}


def test_every_room_is_a_package() -> None:
    missing = [room for room in ROOMS if not (ROOT / room / "__init__.py").is_file()]

    assert missing == []


def test_imports_follow_the_arrows() -> None:
    missing = [name for name in NAMED_IN_CONTRACTS if not (ROOT / name / "__init__.py").is_file()]
    if missing:
        pytest.skip(f"not built yet: {', '.join(missing)}")

    command = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    lint = subprocess.run(
        [sys.executable, "-c", command, "--no-cache", "--no-logo"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert lint.returncode == 0, lint.stdout + lint.stderr


@pytest.mark.parametrize("path", sorted(CORE.rglob("*.py")), ids=lambda path: str(path.relative_to(CORE)))
def test_the_core_reads_no_clock_no_file_no_socket_and_draws_no_chance(path: Path) -> None:
    assert impurities(path.read_text(), allowed=ALLOWED.get(path.name, set())) == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import time", ["line 1: imports time"]),
        ("import os.path", ["line 1: imports os"]),
        ("from asyncio import sleep", ["line 1: imports asyncio"]),
        ("def f():\n    from random import random", ["line 2: imports random"]),
        ("import datetime\ndatetime.datetime.now()", ["line 2: calls now()"]),
        ("from datetime import date\ndate.today()", ["line 2: calls today()"]),
        ("open('a')", ["line 1: calls open()"]),
        ("import numpy as np\nnp.random.default_rng()", ["line 2: uses .random"]),
        ("from datetime import datetime\ndatetime.fromtimestamp(0)\nposition.open()", []),
        ("from numpy import random", ["line 1: imports random"]),
    ],
)
def test_the_check_itself_finds_what_it_is_for(source: str, found: list[str]) -> None:
    assert impurities(source) == found


def impurities(source: str, allowed: set[str] = frozenset()) -> list[str]:  # type: ignore[assignment]
    """What *source* imports or calls that a pure core must not, each with its line."""
    found = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                found += [(node.lineno, f"imports {name.name.split('.')[0]}") for name in names
                          if name.name.split(".")[0] in FORBIDDEN_IN_CORE - allowed]  # fmt: skip
            case ast.ImportFrom(module=module, names=names, level=0) if module:
                imported = {module.split(".")[0], *(name.name for name in names if name.name == "random")}
                found += [(node.lineno, f"imports {name}") for name in imported & FORBIDDEN_IN_CORE - allowed]
            case ast.Call(func=ast.Name(id=name)) if name in FORBIDDEN_CALLS:
                found.append((node.lineno, f"calls {name}()"))
            case ast.Call(func=ast.Attribute(attr=name)) if name in CLOCK_READS:
                found.append((node.lineno, f"calls {name}()"))
            case ast.Attribute(attr="random"):
                found.append((node.lineno, "uses .random"))
    return [f"line {line}: {what}" for line, what in sorted(found)]
