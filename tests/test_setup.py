"""The decisions of scripts/setup.py; what it installs is tried by every `make test` that starts from nothing."""

from __future__ import annotations

import fcntl
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def setup() -> ModuleType:
    spec = importlib.util.spec_from_file_location("flotilla_setup", ROOT / "scripts" / "setup.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with what a stamp depends on and a virtual environment that looks complete."""
    root = tmp_path / "a checkout"
    (root / ".venv" / "bin").mkdir(parents=True)
    (root / ".venv" / "bin" / "python").symlink_to(sys.executable)
    for name in ("pyproject.toml", "constraints.txt", "requirements.txt", "requirements-dev.txt"):
        (root / name).write_text(f"# {name}\n")
    return root


@pytest.fixture
def client(setup: ModuleType, checkout: Path) -> str:
    """The name of a client whose environment in that checkout looks complete."""
    name, pins = next(iter(setup.CLIENTS.items()))
    (checkout / pins).parent.mkdir(parents=True)
    (checkout / pins).write_text(f"{name}==1.0\n")
    folder = setup.client_of(checkout / ".venv", name)
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").symlink_to(sys.executable)
    (folder / "flotilla-client.stamp").write_text(setup.stamp_of_client(checkout, name))
    return name


def stamp(setup: ModuleType, checkout: Path, *kinds: str) -> None:
    for kind in kinds:
        (checkout / ".venv" / f"flotilla-{kind}.stamp").write_text(setup.stamp_of(checkout, kind))


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt", "requirements.txt"])
def test_a_changed_input_changes_both_stamps(setup: ModuleType, checkout: Path, name: str) -> None:
    before = [setup.stamp_of(checkout, kind) for kind in ("run", "dev")]

    (checkout / name).write_text("another\n")

    after = [setup.stamp_of(checkout, kind) for kind in ("run", "dev")]
    assert before[0] != after[0]
    assert before[1] != after[1]


def test_what_only_the_tests_need_changes_the_dev_stamp_alone(setup: ModuleType, checkout: Path) -> None:
    stamp(setup, checkout, "run", "dev")

    (checkout / "requirements-dev.txt").write_text("another\n")

    assert setup.is_done(checkout / ".venv", "run")
    assert not setup.is_done(checkout / ".venv", "dev")


def test_a_checkout_that_moved_is_not_done(setup: ModuleType, checkout: Path) -> None:
    stamp(setup, checkout, "run")

    moved = checkout.rename(checkout.with_name("elsewhere"))

    assert not setup.is_done(moved / ".venv", "run")


def test_a_dev_installation_serves_to_run_but_not_the_other_way_round(setup: ModuleType, checkout: Path) -> None:
    stamp(setup, checkout, "dev")
    assert setup.is_done(checkout / ".venv", "run")

    (checkout / ".venv" / "flotilla-dev.stamp").unlink()
    stamp(setup, checkout, "run")
    assert not setup.is_done(checkout / ".venv", "dev")


def test_an_installation_that_was_cut_short_is_not_done(setup: ModuleType, checkout: Path) -> None:
    stamp(setup, checkout, "run", "dev")

    setup.marker_of(checkout / ".venv").touch()

    assert not setup.is_done(checkout / ".venv", "run")


def test_an_environment_whose_python_is_gone_is_not_done(setup: ModuleType, checkout: Path) -> None:
    stamp(setup, checkout, "run")
    python = checkout / ".venv" / "bin" / "python"

    python.unlink()
    python.symlink_to(checkout / "no such python")

    assert not setup.is_done(checkout / ".venv", "run")


def test_an_environment_of_a_client_that_is_there_is_left_alone(
    setup: ModuleType, checkout: Path, client: str
) -> None:
    assert setup.missing_clients(checkout / ".venv", "dev") == []


def test_other_pins_call_for_another_environment_of_that_client(
    setup: ModuleType, checkout: Path, client: str
) -> None:
    (checkout / setup.CLIENTS[client]).write_text(f"{client}==2.0\n")

    assert setup.missing_clients(checkout / ".venv", "dev") == [client]


@pytest.mark.parametrize("lost", ["flotilla-client.stamp", "bin/python"])
def test_an_environment_of_a_client_that_was_cut_short_is_made_anew(
    setup: ModuleType, checkout: Path, client: str, lost: str
) -> None:
    (setup.client_of(checkout / ".venv", client) / lost).unlink()

    assert setup.missing_clients(checkout / ".venv", "dev") == [client]


def test_who_only_runs_flotilla_needs_no_clients(setup: ModuleType, checkout: Path, client: str) -> None:
    (checkout / setup.CLIENTS[client]).write_text(f"{client}==2.0\n")

    assert setup.missing_clients(checkout / ".venv", "run") == []


def test_an_environment_of_a_client_is_new_with_what_its_file_pins(
    setup: ModuleType, checkout: Path, client: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[list[str]] = []
    folder = setup.client_of(checkout / ".venv", client)
    (folder / "from before").touch()

    def make(what: str, command: list[str], **more: object) -> None:
        ran.append(command)
        assert not (folder / "from before").exists()
        (folder / "bin").mkdir(parents=True, exist_ok=True)
        (folder / "bin" / "python").touch(0o755)

    monkeypatch.setattr(setup, "run_quietly", make)

    with (checkout / "lock").open("a") as lock:
        setup.install_client(checkout / ".venv", client, lock)

    make_venv, install = ran
    assert make_venv[-3:] == ["venv", "--without-pip", str(folder)]
    assert install[-2:] == ["-r", setup.CLIENTS[client]]
    assert str(folder / "bin" / "python") in install
    assert setup.missing_clients(checkout / ".venv", "dev") == []


def test_an_environment_of_a_client_that_fails_is_done_over(
    setup: ModuleType, checkout: Path, client: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(what: str, command: list[str], **more: object) -> None:
        raise setup.SetupFailed("the index was not reached")

    monkeypatch.setattr(setup, "run_quietly", fail)

    with (checkout / "lock").open("a") as lock, pytest.raises(setup.SetupFailed, match="not reached"):
        setup.install_client(checkout / ".venv", client, lock)

    assert setup.missing_clients(checkout / ".venv", "dev") == [client]


def lacking(setup: ModuleType, *, package_manager: str = "apt-get", **machine: object) -> str:
    healthy = {
        "version": (3, 12, 1),
        "has_module": lambda name: True,
        "load_library": lambda name: None,
        "has_program": lambda name: name == package_manager,
        "system": "linux",
    }
    return "\n".join(setup.missing_from_system(**{**healthy, **machine}))


def no_library(name: str) -> object:
    raise OSError(f"{name}: cannot open shared object file")


def test_a_healthy_machine_lacks_nothing(setup: ModuleType) -> None:
    assert lacking(setup) == ""


@pytest.mark.parametrize(
    ("package_manager", "command"),
    [("apt-get", "apt-get install libgomp1"), ("dnf", "dnf install libgomp"), ("apk", "apk add libgomp")],
)
def test_a_missing_libgomp_is_named_with_the_command_that_installs_it(
    setup: ModuleType, package_manager: str, command: str
) -> None:
    said = lacking(setup, load_library=no_library, package_manager=package_manager)

    assert "libgomp.so.1" in said
    assert command in said


def test_libgomp_is_no_matter_on_other_systems(setup: ModuleType) -> None:
    assert lacking(setup, load_library=no_library, system="darwin") == ""


def test_a_python_without_pip_for_its_venvs_is_named_with_its_own_package(setup: ModuleType) -> None:
    said = lacking(setup, has_module=lambda name: name != "ensurepip", version=(3, 11, 2))

    assert "ensurepip" in said
    assert "apt-get install python3.11-venv" in said


def test_the_folder_that_an_uninstalled_package_left_behind_is_no_module(
    setup: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "left_behind" / "__pycache__").mkdir(parents=True)
    monkeypatch.syspath_prepend(tmp_path)

    assert not setup._has_module("left_behind")
    assert setup._has_module("ensurepip")


def test_everything_that_is_missing_is_named_at_once(setup: ModuleType) -> None:
    said = lacking(setup, has_module=lambda name: False, load_library=no_library)

    assert "venv" in said
    assert "libgomp1" in said


def test_an_old_python_is_told_the_version_it_is_and_the_one_it_takes(setup: ModuleType) -> None:
    said = lacking(setup, version=(3, 9, 18))

    assert "3.9.18" in said
    assert "3.11 or newer" in said


def test_a_failed_command_shows_its_last_lines_and_a_remedy(setup: ModuleType, tmp_path: Path) -> None:
    script = "for n in range(40): print('line', n)\nprint('No space left on device')\nraise SystemExit(1)"

    with pytest.raises(setup.SetupFailed) as failure:
        setup.run_quietly("Installing", [sys.executable, "-c", script], log=tmp_path / "log", environment={})

    said = str(failure.value)
    assert "No space left" in said
    assert "free about 1 GB" in said
    assert "line 39" in said
    assert "line 20" not in said


@pytest.mark.parametrize(
    ("lines", "remedy"),
    [
        (["Retrying after connection broken", "ERROR: ResolutionImpossible"], "network or proxy"),
        (["ERROR: No matching distribution found for numpy==2.4.6"], "too new or too old"),
        (["OSError: [Errno 13] Permission denied: 'flotilla.egg-info'"], "belongs to another user"),
        (["something else"], "remove .venv"),
    ],
)
def test_the_remedy_fits_what_pip_said_last(setup: ModuleType, lines: list[str], remedy: str) -> None:
    assert remedy in setup.remedy_for(lines)


def test_pip_keeps_its_index_but_is_not_diverted_from_the_environment(setup: ModuleType, tmp_path: Path) -> None:
    given = {"PIP_INDEX_URL": "https://index.example/simple", "PIP_TARGET": "/elsewhere", "PYTHONPATH": "/elsewhere"}

    environment = setup.quiet_environment(given, tmp_path)

    assert environment["PIP_INDEX_URL"] == given["PIP_INDEX_URL"]
    assert "/elsewhere" not in environment.values()
    assert environment["TMPDIR"] == str(tmp_path)


def test_a_second_set_up_waits_for_the_first_and_says_so(
    setup: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "lock"
    first = path.open("a")
    fcntl.flock(first, fcntl.LOCK_EX)
    monkeypatch.setattr(setup, "pause", first.close)  # the first one ends while the second pauses

    with setup.locked(path):
        assert "waiting" in capsys.readouterr().out


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_someone_who_may_not_write_is_told_whose_turn_it_is(setup: ModuleType, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)

    with pytest.raises(setup.SetupFailed, match="as the owner"), setup.locked(tmp_path / "lock"):
        pass


def test_plain_make_names_the_targets() -> None:
    said = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout

    for target in ("make run", "make test", "make lint", "make bench", "make clean"):
        assert target in said


def test_every_direct_dependency_is_pinned_and_agrees_with_the_constraints() -> None:
    def pins(name: str) -> dict[str, str]:
        lines = [line for line in (ROOT / name).read_text().splitlines() if line and not line.startswith("#")]
        assert all("==" in line for line in lines), name
        pairs = (line.split("==") for line in lines)
        return {package.split("[")[0].lower().replace("_", "-"): version for package, version in pairs}

    constraints = pins("constraints.txt")
    for name in ("requirements.txt", "requirements-dev.txt"):
        for package, version in pins(name).items():
            assert constraints[package] == version


def test_environments_of_clients_pin_whatever_they_hold(setup: ModuleType) -> None:
    for pins in setup.CLIENTS.values():
        lines = [line for line in (ROOT / pins).read_text().splitlines() if not line.startswith("#")]
        assert lines
        assert all("==" in line.partition(";")[0] for line in lines)
