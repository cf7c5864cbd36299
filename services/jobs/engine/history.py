"""What is kept of a job's past: its newest workflows, and their configurations (jobs contract, section 4,
ListJobWorkflows). Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from services.jobs.engine.board import Board
from shared.pb.peloton.api.v1alpha.job.stateless import stateless_pb2 as stateless
from shared.pb.roundhouse.jobs.v1 import jobs_pb2 as pb

# Of updates, and of others.
KEPT: Final = 10


def outdated(workflows: Iterable[pb.Workflow], current: str) -> list[pb.Workflow]:
    """Those to forget. The one named `current` stays."""
    found: list[pb.Workflow] = []
    kept = {True: 0, False: 0}
    for workflow in sorted(workflows, key=lambda found: found.name, reverse=True):
        update = workflow.type == stateless.WORKFLOW_TYPE_UPDATE
        if kept[update] < KEPT or workflow.name == current:
            kept[update] += 1
        else:
            found.append(workflow)
    return found


def needed(board: Board, kept: Iterable[pb.Workflow]) -> set[int]:
    """The configurations that stay: of the workflows that stay, of the job, and of its pods."""
    found = {board.job.message.configuration}
    for pod in (entry.message for entry in board.pods.values()):
        found |= {pod.configuration, pod.desired_configuration}
    for workflow in kept:
        found |= {workflow.configuration, workflow.failed_configuration}
    if board.workflow is not None:
        found.add(board.workflow.message.prev_configuration)
    return found
