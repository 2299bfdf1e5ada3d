"""Start everything, keep it running, end it in order.

Simulator, web server and supervisor are children that are restarted singly; they end with us, also when we are killed
(`leash.py`). Bots are nobody's children: they are ended through their locks, before the simulator, and what people
wanted of them stays in the rows, so that the next start resumes them.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import urllib.error
import urllib.request
from contextlib import suppress

from setproctitle import setproctitle

from server import demo
from server.end_signals import EndSignals
from server.logs import log_to
from server.make_parent import parent_was_interrupted
from server.security.secrets import load_vault
from server.security.users import FIRST_ADMIN, first_start, is_password_of_admin
from server.settings import Settings
from server.supervisor.run import end_bots
from server.up.child import Child
from server.up.doorway import check_ports, only_one
from server.up.orphans import reap_orphans, take_orphans

ROUND_S = 0.25
_SECRETS = ("FLOTILLA_SECRET_KEYS", "FLOTILLA_ADMIN_PASSWORD", "DATABASE_URL", "FLOTILLA_TOKEN")
_SUPERVISOR_S, _BOTS_S, _REST_S, _ALL_S = 3.0, 20.0, 23.5, 25.0
_DEMO_TRIES = 3


def up(settings: Settings, *, with_demo: bool = False) -> int:
    """Run until SIGINT, SIGTERM, SIGHUP or the end of the make that started us. Raises `FlotillaError` in words."""
    end = EndSignals(signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    setproctitle("flotilla: up")
    take_orphans()
    with only_one(settings) as after_a_crash:
        check_ports(settings, after_a_crash=after_a_crash)
        load_vault(settings)  # unusable keys are refused here, in words, and not by each process again and again
        say(f"Flotilla keeps its data in {settings.home}")
        password = first_start(settings)
        if password is not None:  # before anything else can fail: nobody can read it later
            say(f"Log in as {FIRST_ADMIN} with the password {password}  (shown this once)")
        if settings.admin_password and not is_password_of_admin(settings):
            say(f"FLOTILLA_ADMIN_PASSWORD has no effect: the password of {FIRST_ADMIN} was set at the first start.")
        house = House(settings, with_demo=with_demo)
        try:
            house.run(end)
        finally:
            house.close()
    return 0


def say(line: str) -> None:
    """One line for a person; a terminal that has gone does not matter."""
    try:
        print(line, flush=True)
    except OSError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  kept for the rest of the process


class House:
    """The children, and the order in which they come and go."""

    def __init__(self, settings: Settings, *, with_demo: bool) -> None:
        self._settings = settings
        self._logs = settings.home / "logs"
        self._logs.mkdir(mode=0o700, exist_ok=True)
        environment = _environment(settings)
        public = {name: value for name, value in environment.items() if name not in _SECRETS}
        state = settings.home / "simulator"
        self._simulator = self._child(
            "simulator", "-m", "simulator", "--port", str(settings.sim_port), "--state", str(state), environment=public
        )
        self._web = self._child("web", "-m", "server", "web", environment=environment)
        self._supervisor = self._child("supervisor", "-m", "server", "supervisor", environment=environment)
        self._keepers = [self._simulator, self._web, self._supervisor]
        self._demo: Child | None = None
        if with_demo:
            self._demo = self._child("demo", "-m", "server", "demo", environment=environment, restarts=False)
        self._demo_tries = 0

    def run(self, end: EndSignals) -> None:
        """Start the children and look after them until *end*."""
        if end.is_set():
            return
        for child in self._keepers:
            child.start()
        greeted = False
        while not end.wait(ROUND_S):
            if parent_was_interrupted():
                return
            for child in self._keepers:
                child.look()
            self._reap()
            if not greeted and self._web_answers():
                greeted = True
                self._greet()
            if greeted:
                self._load_demo()

    def close(self) -> None:
        """End everything: supervisor, bots, web, simulator. What does not end in time is killed."""
        start = time.monotonic()
        with suppress(OSError):  # a full disk
            log_to((self._logs / "up.log").open("a"))
        for child in (self._demo, self._supervisor):
            if child is not None:
                child.ask_to_end()
        for child in (self._demo, self._supervisor):
            if child is not None and not child.wait(start + _SUPERVISOR_S):
                child.kill()
        if self._demo is not None:
            self._demo.kill()  # with what it started
        end_bots(self._settings, until=start + _BOTS_S, say=say)
        for child in (self._web, self._simulator):
            child.ask_to_end()
            child.wait(start + _REST_S)
        for child in self._keepers:
            if not child.wait(start + _ALL_S if child.is_running else 0):
                child.kill()
                child.wait(time.monotonic() + 2)
        self._reap()
        say("Flotilla has ended.")

    def _reap(self) -> None:
        reap_orphans({child.pid for child in (*self._keepers, self._demo) if child is not None})

    def _greet(self) -> None:
        say(f"Flotilla runs at {self._settings.base_url}")
        say(f"Ctrl-C ends it in order; logs are in {self._logs}")

    def _load_demo(self) -> None:
        child = self._demo
        if child is None or child.is_running:
            return
        if child.exit_code == 0 or (child.exit_code is None and demo.is_done(self._settings)):
            if child.exit_code == 0:
                say("The demo fleet is loaded: three bots trade on the simulator.")
            self._demo = None
        elif self._demo_tries < _DEMO_TRIES:
            if not self._demo_tries:
                say("Loading the demo fleet: two models are trained first, which takes some seconds ...")
            self._demo_tries += 1
            with suppress(OSError):  # it counts as a try
                child.start()
        else:
            say(f"The demo fleet could not be loaded; see {self._logs / 'demo.log'}.")
            self._demo = None

    def _web_answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self._settings.base_url}/health", timeout=0.5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def _child(self, name: str, *arguments: str, environment: dict[str, str], restarts: bool = True) -> Child:
        log = self._logs / f"{name}.log"
        return Child(name, [sys.executable, *arguments], log, environment, say, restarts=restarts)


def _environment(settings: Settings) -> dict[str, str]:
    return os.environ | {
        "FLOTILLA_HOME": str(settings.home),
        "FLOTILLA_HOST": settings.host,
        "FLOTILLA_PORT": str(settings.port),
        "FLOTILLA_SIM_PORT": str(settings.sim_port),
        "PYTHONUNBUFFERED": "1",
    }
