"""Run a program that ends when the process that asked for it dies, however it dies.

``python -I -S leash.py <parent pid> program …``: sets the parent-death signal to SIGTERM, which survives the exec. For
the simulator, the web server and the supervisor only: bots are meant to outlive everybody. Standard library only.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Entry point."""
    parent = int(sys.argv[1])
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
    if os.getppid() != parent:  # it died before the line above
        sys.exit(1)
    os.execv(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    main()
