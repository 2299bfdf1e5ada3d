"""What is checked before ``flotilla up`` starts anything: one per home folder, and free ports."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

from server.settings import BadSetting, Settings
from shared.errors import FlotillaError

_AFTER_A_CRASH_S = 8.0


class AlreadyUp(FlotillaError):
    """Another ``flotilla up`` uses this home."""

    code = "already_up"


@contextmanager
def only_one(settings: Settings) -> Iterator[bool]:
    """Hold the home's lock; True if an earlier one was killed and its processes may still be ending."""
    settings.make_home()
    descriptor = os.open(settings.home / "up.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.read(descriptor, 20).decode("ascii", "replace").strip()
            raise AlreadyUp(
                f"Flotilla already runs on {settings.home} (process {pid}). "
                "Stop it first, or set another FLOTILLA_HOME and other ports."
            ) from None
        was_killed = bool(os.read(descriptor, 20).strip())
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
        yield was_killed
        os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def check_ports(settings: Settings, *, after_a_crash: bool) -> None:
    """Raises `BadSetting` that names the port that is taken and its variable."""
    if settings.port == settings.sim_port:
        raise BadSetting(
            f"FLOTILLA_PORT and FLOTILLA_SIM_PORT are both {settings.port}. Set one of them to another port."
        )
    deadline = time.monotonic() + (_AFTER_A_CRASH_S if after_a_crash else 0.0)
    for host, port, name in (
        (settings.host, settings.port, "FLOTILLA_PORT"),
        ("127.0.0.1", settings.sim_port, "FLOTILLA_SIM_PORT"),
    ):
        while (trouble := _trouble(host, port, name)) is not None:
            if time.monotonic() >= deadline:
                raise BadSetting(trouble)
            time.sleep(0.1)


def _trouble(host: str, port: int, name: str) -> str | None:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        return f"FLOTILLA_HOST {host} is no address of this machine ({error.strerror}). Set it to 127.0.0.1."
    family, kind, protocol, _, address = found[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
            probe.listen(1)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return f"{name} {port} is taken on {host}. Stop what listens there, or set {name} to another port."
            if error.errno in (errno.EACCES, errno.EPERM):
                return f"{name} {port} needs more rights than this user has. Set a port above 1023."
            return f"{name} {port} cannot be used on {host} ({error.strerror}). Set another one."
    return None
