"""Experiments as rows and pages show them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from admin_ui.clients import Endpoint
from admin_ui.list_state import ListState
from admin_ui.presenters import commands, moments
from admin_ui.presenters.commands import Snippet
from shared.pb.backend.api.v2beta1 import experiment_pb2 as pb

SERVICE: Final = "kubeflow.pipelines.backend.api.v2beta1.ExperimentService"


@dataclass(frozen=True, slots=True)
class State:
    """A state in words, with a tone and an icon: colour alone says nothing."""

    label: str
    tone: str
    icon: str


STATES: Final[dict[int, State]] = {
    pb.Experiment.AVAILABLE: State("Active", "ok", "dot"),
    pb.Experiment.ARCHIVED: State("Archived", "muted", "archive"),
}
UNKNOWN_STATE: Final = State("Unknown", "warn", "question")


@dataclass(frozen=True, slots=True)
class Experiment:
    id: str
    name: str
    description: str
    namespace: str
    state: State
    archived: bool
    created: datetime | None
    last_run: datetime | None


def experiment(message: pb.Experiment) -> Experiment:
    return Experiment(
        id=message.experiment_id,
        name=message.display_name,
        description=message.description,
        namespace=message.namespace,
        state=STATES.get(message.storage_state, UNKNOWN_STATE),
        archived=message.storage_state == pb.Experiment.ARCHIVED,
        created=moments.from_timestamp(message.created_at),
        last_run=moments.from_timestamp(message.last_run_created_at),
    )


# --- filters ------------------------------------------------------------------------------------


def filter_json(state: ListState) -> str:
    """What the page's controls and the typed predicates ask of ListExperiments, AND-ed.

    Predicates that are not JSON of the expected shape go out as they are: the service's own words
    about them are better than ours.
    """
    predicates: list[Any] = []
    if state.q:
        predicates.append({"operation": "IS_SUBSTRING", "key": "display_name", "string_value": state.q})
    if state.state != "all":
        operation = "EQUALS" if state.state == "archived" else "NOT_EQUALS"
        predicates.append({"operation": operation, "key": "storage_state", "string_value": "ARCHIVED"})
    if not state.filter:
        return json.dumps({"predicates": predicates}) if predicates else ""
    try:
        typed = json.loads(state.filter)
    except ValueError:
        return state.filter
    if not isinstance(typed, dict) or typed.keys() - {"predicates"}:
        return state.filter
    given = typed.get("predicates", [])
    if not isinstance(given, list):
        return state.filter
    return json.dumps({"predicates": [*predicates, *given]})


def sentence(state: ListState) -> str:
    """The filter in words: `active experiments whose name contains “x”`."""
    kind = {"active": "active experiments", "archived": "archived experiments", "all": "experiments"}
    parts = [kind[state.state]]
    if state.q:
        parts.append(f"whose name contains “{state.q}”")
    if state.filter:
        parts.append("and that match your predicates" if state.q else "that match your predicates")
    if state.namespace:
        parts.append(f"in namespace {state.namespace}")
    return " ".join(parts)


def ids_filter(ids: Sequence[str]) -> str:
    """A filter for the experiments with these ids."""
    return json.dumps(
        {"predicates": [{"operation": "IN", "key": "experiment_id", "string_values": {"values": list(ids)}}]}
    )


# --- the same in a terminal ---------------------------------------------------------------------


def commands_for_one(endpoint: Endpoint, found: Experiment) -> list[Snippet]:
    rest = commands.rest(endpoint)
    verb = "unarchive" if found.archived else "archive"
    path = f"{rest}/apis/v2beta1/experiments/{found.id}"
    return [
        Snippet("curl", commands.curl(path)),
        Snippet(f"curl · {verb}", commands.curl(f"{path}:{verb}", options="-X POST")),
        Snippet(
            "grpcurl", commands.grpcurl(endpoint, f"{SERVICE}/GetExperiment", {"experiment_id": found.id})
        ),
        Snippet(
            "kfp",
            _kfp(rest, f"print(client.get_experiment(experiment_id={json.dumps(found.id)}))"),
        ),
        Snippet("roundhouse", commands.roundhouse("get", "experiment", found.id, "-o", "yaml")),
    ]


def commands_for_list(endpoint: Endpoint, request: pb.ListExperimentsRequest) -> list[Snippet]:
    rest = commands.rest(endpoint)
    given = commands.fields(request)
    arguments = ", ".join(
        f"{key}={json.dumps(given[key], ensure_ascii=False)}"
        for key in ("page_size", "sort_by", "namespace", "filter")
        if key in given
    )
    return [
        Snippet("curl", commands.curl(f"{rest}/apis/v2beta1/experiments", given)),
        Snippet("grpcurl", commands.grpcurl(endpoint, f"{SERVICE}/ListExperiments", given)),
        Snippet("kfp", _kfp(rest, f"print(client.list_experiments({arguments}))")),
    ]


def _kfp(rest: str, line: str) -> str:
    host = "os.environ['PIPELINES_URL']" if rest.startswith("$") else json.dumps(rest)
    return f"import os, kfp\nclient = kfp.Client(host={host}, existing_token=os.environ['TOKEN'])\n{line}"
