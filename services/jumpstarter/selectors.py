"""LabelSelector messages as selectors."""

from __future__ import annotations

from collections.abc import Sequence

from shared.errors import InvalidArgument, Violation
from shared.pb.jumpstarter.v1.kubernetes_pb2 import LabelSelector
from shared.query.dialects import selector
from shared.query.dialects.selector import Selector


def of(message: LabelSelector, parameter: str = "selector") -> Selector:
    """Raises InvalidArgument with every violation below `parameter`."""
    expressions = [(e.key, e.operator, tuple(e.values)) for e in message.match_expressions]
    return selector.of(dict(message.match_labels), expressions, parameter=parameter)


def faults(message: LabelSelector, parameter: str) -> Sequence[Violation]:
    """What is wrong with it."""
    try:
        of(message, parameter)
    except InvalidArgument as error:
        return error.violations
    return ()
