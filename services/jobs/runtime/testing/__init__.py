"""The contract of runtimes, as a pytest class that every runtime's tests derive from, unchanged.

    class TestMine(RuntimeContract):
        ... the hooks of `services.jobs.runtime.testing.base.RuntimeHooks`

Beyond the port's docstrings the suite fixes these: STOPPED is what was stopped, whatever it answered;
an unknown stream is a ValueError; `forget` of an attempt that lives does nothing; an attempt that was
stopped while it waited never has a start time.
"""

from __future__ import annotations

from services.jobs.runtime.testing.base import RuntimeHooks
from services.jobs.runtime.testing.endings import EndingContract
from services.jobs.runtime.testing.files import FileContract
from services.jobs.runtime.testing.memory import MemoryContract
from services.jobs.runtime.testing.watching import WatchContract

__all__ = ["RuntimeContract", "RuntimeHooks"]


class RuntimeContract(EndingContract, MemoryContract, WatchContract, FileContract):
    """What every runtime promises."""
