"""Where a pod may run, by the labels of a host and of the pods on it (`pod.Constraint`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from shared.errors import Violation
from shared.pb.peloton.api.v1alpha.pod.pod_pb2 import Constraint, LabelConstraint

# Whether the host that is asked about has what a label constraint wants.
Fits = Callable[[LabelConstraint], bool]
_KINDS = frozenset({LabelConstraint.LABEL_CONSTRAINT_KIND_POD, LabelConstraint.LABEL_CONSTRAINT_KIND_HOST})


def met(constraint: Constraint, fits: Fits) -> bool:
    """One without a type asks for nothing."""
    match constraint.type:
        case Constraint.CONSTRAINT_TYPE_LABEL:
            return fits(constraint.label_constraint)
        case Constraint.CONSTRAINT_TYPE_AND:
            return all(met(part, fits) for part in constraint.and_constraint.constraints)
        case Constraint.CONSTRAINT_TYPE_OR:
            return any(met(part, fits) for part in constraint.or_constraint.constraints)
    return True


def holds(label: LabelConstraint, found: int) -> bool:
    """Where so many things of its kind, hosts or pods, have its label."""
    match label.condition:
        case LabelConstraint.LABEL_CONSTRAINT_CONDITION_LESS_THAN:
            return found < label.requirement
        case LabelConstraint.LABEL_CONSTRAINT_CONDITION_EQUAL:
            return found == label.requirement
        case LabelConstraint.LABEL_CONSTRAINT_CONDITION_GREATER_THAN:
            return found > label.requirement
    return False


def faults(constraint: Constraint, path: str) -> Iterator[Violation]:
    """What makes it no constraint, wherever pods run."""
    match constraint.type:
        case Constraint.CONSTRAINT_TYPE_LABEL:
            yield from _label_faults(constraint.label_constraint, f"{path}.label_constraint")
        case Constraint.CONSTRAINT_TYPE_AND:
            yield from _part_faults(list(constraint.and_constraint.constraints), f"{path}.and_constraint")
        case Constraint.CONSTRAINT_TYPE_OR:
            yield from _part_faults(list(constraint.or_constraint.constraints), f"{path}.or_constraint")
        case _ if constraint.ByteSize():
            yield Violation(f"{path}.type", "must be LABEL, AND or OR")


def _part_faults(parts: Sequence[Constraint], path: str) -> Iterator[Violation]:
    if not parts:
        yield Violation(f"{path}.constraints", "must not be empty")
    for index, part in enumerate(parts):
        yield from faults(part, f"{path}.constraints[{index}]")


def _label_faults(label: LabelConstraint, path: str) -> Iterator[Violation]:
    if label.kind not in _KINDS:
        yield Violation(f"{path}.kind", "must be POD or HOST")
    if label.condition not in LabelConstraint.Condition.values()[1:]:
        yield Violation(f"{path}.condition", "must be LESS_THAN, EQUAL or GREATER_THAN")
    if not label.label.key:
        yield Violation(f"{path}.label.key", "must not be empty")
