"""What every test may use: `--soak`, and `scale` for what is too slow to run whole each time."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import TypeVar

import pytest
from hypothesis import settings

Size = TypeVar("Size")

# A shell that runs the suite in the background makes it ignore interrupts, which programs under test
# would inherit.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# How long one example takes says how busy the machine is.
settings.register_profile("suite", settings(), deadline=None)
settings.load_profile("suite")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--soak", action="store_true", help="Run what is slow at full size (`make soak`).")


@pytest.fixture(scope="session")
def soak(request: pytest.FixtureRequest) -> bool:
    """Whether this run is `make soak`."""
    return bool(request.config.getoption("--soak"))


@pytest.fixture(scope="session")
def scale(soak: bool) -> Callable[[Size, Size], Size]:
    """`scale(reduced, full)`: the size for this run."""
    return lambda reduced, full: full if soak else reduced
