"""Start `python -m MODULE ARGUMENT...` so that it is asked to stop when its parent dies.

    python -S child.py MODULE ARGUMENT...

A parent that is killed outright can stop nobody, and what it ran would keep the ports. Linux has a
signal for that; elsewhere the module just starts. Run as a script: imports as little as possible.
"""

from __future__ import annotations

import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def follow_parent() -> None:
    """Ask for SIGTERM when the parent is gone. Survives exec."""
    import ctypes

    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


if __name__ == "__main__":
    if sys.platform == "linux":
        follow_parent()
    os.execv(sys.executable, [sys.executable, "-m", *sys.argv[1:]])
