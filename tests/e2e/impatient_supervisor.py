"""A supervisor that speaks of a silent host after 8 s and gives it up after 16 s, so that a test can wait for it."""

from __future__ import annotations

from server.cli import main
from server.supervisor import remote

if __name__ == "__main__":
    remote.QUIET_S, remote.LOST_S = 8, 16
    main()
