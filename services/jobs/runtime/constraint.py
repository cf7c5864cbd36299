"""Where a pod may run, by the labels of a host and of the pods on it (`pod.Constraint`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from shared.pb.peloton.api.v1alpha.pod.pod_pb2 import Constraint, LabelConstraint

# How many things of the constraint's kind have its label, on the host that is asked about.
Count = Callable[[LabelConstraint], int]


def leaves(constraint: Constraint, path: str) -> Iterator[tuple[str, LabelConstraint]]:
    """The label constraints that it is made of, with their paths."""
    match constraint.type:
        case Constraint.CONSTRAINT_TYPE_LABEL:
            yield f"{path}.label_constraint", constraint.label_constraint
        case Constraint.CONSTRAINT_TYPE_AND:
            for index, part in enumerate(constraint.and_constraint.constraints):
                yield from leaves(part, f"{path}.and_constraint.constraints[{index}]")
        case Constraint.CONSTRAINT_TYPE_OR:
            for index, part in enumerate(constraint.or_constraint.constraints):
                yield from leaves(part, f"{path}.or_constraint.constraints[{index}]")


def met(constraint: Constraint, count: Count) -> bool:
    """One without a type asks for nothing."""
    match constraint.type:
        case Constraint.CONSTRAINT_TYPE_LABEL:
            return _met(constraint.label_constraint, count)
        case Constraint.CONSTRAINT_TYPE_AND:
            return all(met(part, count) for part in constraint.and_constraint.constraints)
        case Constraint.CONSTRAINT_TYPE_OR:
            return any(met(part, count) for part in constraint.or_constraint.constraints)
    return True


def _met(label: LabelConstraint, count: Count) -> bool:
    found = count(label)
    match label.condition:
        case LabelConstraint.LABEL_CONSTRAINT_CONDITION_LESS_THAN:
            return found < label.requirement
        case LabelConstraint.LABEL_CONSTRAINT_CONDITION_EQUAL:
            return found == label.requirement
        case LabelConstraint.LABEL_CONSTRAINT_CONDITION_GREATER_THAN:
            return found > label.requirement
    return False
