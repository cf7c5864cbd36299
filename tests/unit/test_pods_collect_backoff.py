"""How long the collector waits before it tries again."""

from __future__ import annotations

from services.pods.collect.backoff import Backoff


def test_it_doubles_up_to_the_longest_and_varies() -> None:
    backoff = Backoff(1.0, 5.0)
    for whole in (1.0, 2.0, 4.0, 5.0, 5.0):
        assert whole / 2 <= backoff.delay() <= whole
    assert len({Backoff(1.0, 5.0).delay() for _ in range(20)}) > 1


def test_success_starts_it_over() -> None:
    backoff = Backoff(1.0, 60.0)
    for _ in range(5):
        backoff.delay()
    backoff.reset()
    assert backoff.delay() <= 1.0


def test_the_other_side_may_ask_for_more() -> None:
    backoff = Backoff(1.0, 5.0)
    assert backoff.delay(at_least=20.0) == 20.0
    assert backoff.delay(at_least=0.1) >= 1.0
