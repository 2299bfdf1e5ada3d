"""Make `.venv` and install into it what Flotilla runs on; do nothing when that has been done.

Standard library only, and nothing outside the checkout is written. What was installed is stamped with a hash of all
that it depends on, so a second call only compares; it takes no lock and writes nothing, and any user may make it. An
installation under way leaves a marker, so that one that was cut short is done over from the start.
"""

from __future__ import annotations

import argparse
import ctypes
import fcntl
import hashlib
import importlib.util
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, ModuleType
from typing import IO

ROOT = Path(__file__).resolve().parent.parent
OLDEST_PYTHON = (3, 11)
POLL_S = 0.2
LOG_LINES_SHOWN = 15

# Everything whose change calls for another installation, per stamp.
INPUTS = {
    "run": ["pyproject.toml", "constraints.txt", "requirements.txt"],
    "dev": ["pyproject.toml", "constraints.txt", "requirements.txt", "requirements-dev.txt"],
}

# Clients of others that the tests run and whose pins do not fit `.venv`: each gets an environment in `.venv/clients`.
CLIENTS = {"ccxt": "tests/simulator/clients/requirements-ccxt.txt"}

# These would send pip's work somewhere other than into `.venv`.
DIVERTING = {
    "PIP_PREFIX", "PIP_ROOT", "PIP_TARGET", "PIP_USER", "PIP_REQUIRE_VIRTUALENV", "PIP_PYTHON", "PIP_DRY_RUN",
    "PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__",
}  # fmt: skip


class SetupFailed(Exception):
    """Set-up cannot go on; the message says why and what to do."""


class Interrupted(BaseException):
    """Someone asked set-up to stop."""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="scripts/setup.py", description="Make .venv and install into it.")
    parser.add_argument("--dev", action="store_true", help="also install what the tests need")
    kind = "dev" if parser.parse_args(arguments).dev else "run"
    venv = ROOT / ".venv"
    try:
        if is_done(venv, kind) and not missing_clients(venv, kind):
            require(missing_from_system(libraries_only=True))
            if packages.is_done(dev=kind == "dev") or not os.access(packages.FOLDER, os.W_OK):
                return 0
        else:
            require(missing_from_system())
        signal.signal(signal.SIGTERM, _interrupt)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            signal.signal(signal.SIGHUP, _interrupt)
        with locked(ROOT / ".setup.lock") as lock:
            if not is_done(venv, kind):
                install(venv, kind, lock)
            for name in missing_clients(venv, kind):
                install_client(venv, name, lock)
            if not packages.is_done(dev=kind == "dev"):
                install_packages(venv, kind, lock)
    except SetupFailed as failure:
        print(f"Set-up failed: {failure}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, Interrupted):
        print("Set-up was interrupted; the next one starts it over.", file=sys.stderr)
        return 130
    return 0


# What has been done, and what is missing


def stamp_of(root: Path, kind: str) -> str:
    """Hash of all that an installation depends on: the files it reads, the Python, the place (a venv cannot move)."""
    return _hash_of(root, INPUTS[kind])


def stamp_of_client(root: Path, name: str) -> str:
    """The same of the environment of one of `CLIENTS`."""
    return _hash_of(root, [CLIENTS[name]])


def _hash_of(root: Path, names: list[str]) -> str:
    digest = hashlib.sha256()
    python = f"{platform.python_implementation()} {sys.version_info[0]}.{sys.version_info[1]} {platform.machine()}"
    for part in (str(root), python):
        digest.update(part.encode("utf-8", "surrogateescape") + b"\0")
    for name in names:
        content = (root / name).read_bytes()
        digest.update(f"{name} {len(content)}\0".encode() + content)
    return digest.hexdigest()


def is_done(venv: Path, kind: str) -> bool:
    """Whether `.venv` holds what *kind* needs. A dev installation also serves to run."""
    if marker_of(venv).exists() or not os.access(venv / "bin" / "python", os.X_OK):
        return False
    root = venv.parent
    return any(
        read_stamp(venv, stamped) == stamp_of(root, stamped)
        for stamped in ({"run", "dev"} if kind == "run" else {"dev"})
    )


def read_stamp(venv: Path, kind: str) -> str | None:
    try:
        return (venv / f"flotilla-{kind}.stamp").read_text()
    except OSError:
        return None


def marker_of(venv: Path) -> Path:
    return venv / "flotilla-installing"


def missing_clients(venv: Path, kind: str) -> list[str]:
    """Names of the environments of `CLIENTS` that *kind* needs and that are not there as they should be."""
    if kind != "dev":
        return []
    return [
        name
        for name in CLIENTS
        if not os.access(client_of(venv, name) / "bin" / "python", os.X_OK)
        or read_stamp(client_of(venv, name), "client") != stamp_of_client(venv.parent, name)
    ]


def client_of(venv: Path, name: str) -> Path:
    return venv / "clients" / name


def missing_from_system(
    *,
    libraries_only: bool = False,
    version: tuple[int, ...] = sys.version_info[:3],
    has_module: Callable[[str], bool] = lambda name: _has_module(name),
    load_library: Callable[[str], object] = ctypes.CDLL,
    has_program: Callable[[str], bool] = lambda name: shutil.which(name) is not None,
    system: str = sys.platform,
) -> list[str]:
    """One sentence for each thing that the machine lacks, with the command that installs it."""
    lacking = []
    if not libraries_only:
        if version[:2] < OLDEST_PYTHON:
            return [
                f"Flotilla needs Python 3.11 or newer; this is {'.'.join(map(str, version))} ({sys.executable}).\n"
                f"  Install it: {install_command('python', has_program)}"
            ]
        if not (has_module("venv") and has_module("ensurepip")):
            lacking.append(
                f"Python's venv module is missing or lacks pip (ensurepip) in {sys.executable}.\n"
                f"  Install it: {install_command('venv', has_program, version)}"
            )
    if system.startswith("linux"):
        try:
            load_library("libgomp.so.1")
        except OSError:
            lacking.append(
                "The library libgomp.so.1 (GNU OpenMP), which LightGBM needs, is missing.\n"
                f"  Install it: {install_command('libgomp', has_program)}"
            )
    return lacking


def _has_module(name: str) -> bool:
    """Whether *name* is a package with files: a folder that an uninstalled one left behind is none."""
    spec = importlib.util.find_spec(name)
    return spec is not None and spec.origin is not None


def install_command(what: str, has_program: Callable[[str], bool], version: tuple[int, ...] = (3,)) -> str:
    """The command of this machine's package manager that installs *what*: python, venv or libgomp."""
    debian_venv = "python3-venv" if len(version) < 2 else f"python{version[0]}.{version[1]}-venv"
    packages = {
        "apt-get install": {"python": "python3 python3-venv", "venv": debian_venv, "libgomp": "libgomp1"},
        "dnf install": {"python": "python3.12", "venv": "python3-pip", "libgomp": "libgomp"},
        "apk add": {"python": "python3", "venv": "python3 py3-pip", "libgomp": "libgomp"},
        "pacman -S": {"python": "python", "venv": "python", "libgomp": "gcc-libs"},
        "zypper install": {"python": "python312", "venv": "python3-pip", "libgomp": "libgomp1"},
    }
    for command, names in packages.items():
        if has_program(command.split()[0]):
            return f"{'' if os.geteuid() == 0 else 'sudo '}{command} {names[what]}"
    return f"with your system's package manager, e.g. apt-get install {packages['apt-get install'][what]}"


def require(missing: list[str]) -> None:
    if missing:
        raise SetupFailed("\n".join(missing))


# One at a time


@contextmanager
def locked(path: Path) -> Iterator[IO[str]]:
    """Hold the checkout's set-up lock. Waits, and says so, while another set-up has it."""
    try:
        lock = path.open("a")
    except OSError as error:
        raise SetupFailed(
            f"{_why_not_done(path.parent / '.venv')}, but {path} cannot be written ({error.strerror}).\n"
            f"  Run `make setup` as the owner of {path.parent}, or work in a copy of your own."
        ) from None
    with lock:
        said = False
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not said:
                    say("Another set-up of this checkout is at work; waiting for it to end ...")
                    said = True
                pause()
        yield lock


def pause() -> None:
    time.sleep(POLL_S)
    if make_parent.parent_was_interrupted():
        raise Interrupted


def _why_not_done(venv: Path) -> str:
    python = venv / "bin" / "python"
    if python.is_symlink() and not os.access(python, os.X_OK):
        return f"the Python that .venv was made with ({os.path.realpath(python)}) cannot be run by this user"
    return "this checkout needs installing"


# Installing


def install(venv: Path, kind: str, lock: IO[str]) -> None:
    """Bring `.venv` to what *kind* needs and stamp it. One that was left half-done, or cannot run, is made anew."""
    started = time.monotonic()
    stamps = {stamped: stamp_of(venv.parent, stamped) for stamped in (INPUTS if kind == "dev" else [kind])}
    usable = _runs_here(venv)
    if (venv.exists() or venv.is_symlink()) and (marker_of(venv).exists() or not usable):
        say("Removing a virtual environment that is incomplete or cannot run here ...")
        _remove(venv)
        usable = False
    try:
        venv.mkdir(exist_ok=True)
        marker_of(venv).touch()
    except OSError as error:
        raise SetupFailed(f"{venv} cannot be written ({error.strerror}). Run `make` as its owner.") from None
    temporary = venv / "tmp"
    temporary.mkdir(exist_ok=True)
    python = str(venv / "bin" / "python")
    log = venv / "setup.log"
    log.write_text("")

    def run(what: str, command: list[str]) -> None:
        say(f"{what} ...")
        run_quietly(what, command, log=log, environment=quiet_environment(os.environ, temporary), lock=lock)

    if not usable:
        say(f"Python {platform.python_version()}: {base_python()}")
        run("Making the virtual environment .venv", [base_python(), "-I", "-m", "venv", str(venv)])
    pip = [python, "-I", "-m", "pip", "install"]
    wanted = ["-c", "constraints.txt", "-r", "requirements.txt"]
    if kind == "dev":
        wanted += ["-r", "requirements-dev.txt"]
        run("Installing packages, with those that the tests need (about a minute)", [*pip, *wanted])
    else:
        run("Installing packages (about a minute)", [*pip, *wanted])
    run("Installing Flotilla itself", [*pip, "--no-deps", "--editable", "."])
    shutil.rmtree(temporary, ignore_errors=True)
    for stamped, stamp in stamps.items():
        (venv / f"flotilla-{stamped}.stamp").write_text(stamp)
    marker_of(venv).unlink()
    say(f"Set-up done in {time.monotonic() - started:.0f} s.")


def install_client(venv: Path, name: str, lock: IO[str]) -> None:
    """Make the environment of one of `CLIENTS` anew and stamp it. It has no pip of its own: that of `.venv` serves it.

    Its file pins all that it needs, so nothing is resolved.
    """
    started = time.monotonic()
    folder, temporary, log = client_of(venv, name), venv / "tmp", venv / f"client-{name}.log"
    what = f"Installing {name}, which the tests trade with"
    say(f"{what} ...")
    try:
        if folder.exists():
            shutil.rmtree(folder)
        temporary.mkdir(exist_ok=True)
        log.write_text("")
    except OSError as error:
        raise SetupFailed(f"{error.filename} cannot be written ({error.strerror}). Run `make` as its owner.") from None
    python = str(folder / "bin" / "python")
    pip = [str(venv / "bin" / "python"), "-I", "-m", "pip", "--python", python, "install", "--no-deps"]
    environment = quiet_environment(os.environ, temporary)
    for command in (
        [base_python(), "-I", "-m", "venv", "--without-pip", str(folder)],
        [*pip, "-r", CLIENTS[name]],
    ):
        run_quietly(what, command, log=log, environment=environment, lock=lock)
    shutil.rmtree(temporary, ignore_errors=True)
    (folder / "flotilla-client.stamp").write_text(stamp_of_client(venv.parent, name))
    say(f"{name} is there after {time.monotonic() - started:.0f} s.")


def install_packages(venv: Path, kind: str, lock: IO[str]) -> None:
    """What the pages load, from their own lock file. Pages work without it, so a failure is said and forgiven."""
    what, log = "Installing what the pages load for live updates and charts", venv / "packages.log"
    say(f"{what} ...")
    log.write_text("")
    command = [str(venv / "bin" / "python"), "-I", "-m", "server", "assets", *(["--dev"] if kind == "dev" else [])]
    try:
        run_quietly(what, command, log=log, environment=dict(os.environ), lock=lock)
    except SetupFailed:
        say(log.read_text(errors="replace").strip().splitlines()[-1])


def run_quietly(
    what: str, command: list[str], *, log: Path, environment: dict[str, str], lock: IO[str] | None = None
) -> None:
    """Run *command* with its output in *log*. Raises SetupFailed with the last lines if it fails."""
    with log.open("a") as output:
        output.write(f"$ {' '.join(command)}\n")
        output.flush()
        # A session of its own: a Ctrl-C reaches us alone, and we end it in order. It inherits the lock, so that
        # nobody else starts while it still writes, even if we are killed.
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=() if lock is None else (lock.fileno(),),
        )
        try:
            while process.poll() is None:
                pause()
        except BaseException:
            _end_group(process)
            raise
    if process.returncode:
        lines = log.read_text(errors="replace").rstrip().splitlines()[-LOG_LINES_SHOWN:]
        raise SetupFailed(f"{what}: exit code {process.returncode}.\n" + "\n".join(f"  | {line}" for line in lines)
                          + f"\n  {remedy_for(lines)}\n  The whole output is in {log}.")  # fmt: skip


def remedy_for(lines: list[str]) -> str:
    """What to try, judged by the last lines that the failed command wrote."""
    text = "\n".join(lines).lower()  # the order matters: out of reach also ends in "no matching distribution"
    if "no space left" in text:
        return "The disk is full: free about 1 GB and run the same command again."
    if any(sign in text for sign in ("connection", "timed out", "name resolution", "ssl", "retrying")):
        return "The package index was not reached: check the network or proxy and run the same command again."
    if "no matching distribution" in text or "resolutionimpossible" in text:
        return "This Python may be too new or too old for a pinned package: try Python 3.11 to 3.13, and remove .venv."
    if "permission denied" in text:
        return "Something in the checkout belongs to another user: run as its owner, or work in a copy of your own."
    return "Run the same command again; if that does not help, remove .venv and try once more."


def quiet_environment(environment: os._Environ[str] | dict[str, str], temporary: Path) -> dict[str, str]:
    """The environment for pip: what points at an index stays, what diverts it from `.venv` goes."""
    kept = {name: value for name, value in environment.items() if name not in DIVERTING}
    return {
        **kept,
        "TMPDIR": str(temporary),
        "PIP_NO_CACHE_DIR": "1",  # a cache would lie outside the checkout
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_INPUT": "1",
        "NO_COLOR": "1",
    }


def base_python() -> str:
    """The interpreter outside any virtual environment."""
    return getattr(sys, "_base_executable", None) or sys.executable


def say(line: str) -> None:
    print(line, flush=True)


def _runs_here(venv: Path) -> bool:
    """Whether the environment has a pip, is of this Python's version, and was made at this place."""
    python = venv / "bin" / "python"
    code = "import pip, sys; print(sys.version_info[:2])"
    try:
        answer = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, check=False)
        made_by = re.search(r"^command = .* -m venv (.*)$", (venv / "pyvenv.cfg").read_text(), re.MULTILINE)
    except OSError:
        return False
    made_here = made_by is None or made_by[1].endswith(str(venv))
    return made_here and answer.stdout.strip() == str(sys.version_info[:2])


def _remove(venv: Path) -> None:
    try:
        venv.unlink() if venv.is_symlink() else shutil.rmtree(venv)
    except OSError as error:
        raise SetupFailed(f"{venv} cannot be removed ({error.strerror}). Remove it as its owner.") from None


def _end_group(process: subprocess.Popen[bytes]) -> None:
    for how in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, how)
            process.wait(timeout=5)
            return
        except ProcessLookupError:
            process.wait()
            return
        except subprocess.TimeoutExpired:
            continue


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise Interrupted


def _load(name: str) -> ModuleType:
    """Load by path: nothing is installed yet, and the package around it may import what is not there."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "server" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


make_parent, packages = _load("make_parent"), _load("packages")

if __name__ == "__main__":
    sys.exit(main())
