"""What `roundhouse up` refuses before it starts anything; the rest is in tests/e2e/test_up.py."""

from __future__ import annotations

import os

import pytest

from shared.cli import up
from shared.errors import InvalidArgument
from shared.service.config import Config


@pytest.mark.parametrize(
    ("user", "settings", "refused"),
    [
        (0, {}, True),
        (1000, {}, False),
        (0, {"jobs_allow_root": "true"}, False),
        (0, {"jobs_runtime": "fake"}, False),
        (0, {"only": "meta,pods"}, False),
        (0, {"only": "meta,jobs"}, True),
    ],
)
def test_pods_as_root_must_be_wanted(
    user: int, settings: dict[str, str], refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: user)
    config = Config.load({}, **settings)
    if not refused:
        up.check(config)
        return
    with pytest.raises(InvalidArgument, match=r"ROUNDHOUSE_JOBS_ALLOW_ROOT: .*--only"):
        up.check(config)
