"""What the pages of jobs do, in a terminal: curl, grpcurl and roundhouse."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any, Final

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from admin_ui.clients import Endpoint
from admin_ui.jobs import JOB, WORKFLOW
from admin_ui.presenters import commands, job_specs, raw
from admin_ui.presenters.commands import Snippet
from admin_ui.presenters.jobs import Job
from shared.pb.peloton.api.v1alpha.job.stateless.stateless_pb2 import JobSpec

SERVICE: Final = "peloton.api.v1alpha.job.stateless.svc.JobService"
POOLS: Final = "peloton.api.v1alpha.respool.ResourcePoolService"
_MARK: Final = "EOF"


def for_list(endpoint: Endpoint, expression: str) -> list[Snippet]:
    filter = ("--filter", expression) if expression else ()
    return [
        Snippet("roundhouse", commands.roundhouse("list", JOB, *filter)),
        Snippet("roundhouse · follow them", commands.roundhouse("watch", JOB, *filter)),
        Snippet("curl · all", commands.curl(f"{_url(endpoint)}")),
        Snippet("grpcurl · by owner", _grpcurl(endpoint, "QueryJobs", {"spec": {"owner": "OWNER"}})),
    ]


def for_first(endpoint: Endpoint) -> list[Snippet]:
    """A first job, for those who have none."""
    rest = commands.rest(endpoint)
    lookup = commands.curl(f"{rest}/v1alpha/resourcePools:lookup?path.value=/DefaultResPool", options="-s")
    container = {"name": "main", "entrypoint": {"value": "while date; do sleep 1; done"}}
    spec = {
        "name": "clock",
        "instanceCount": 2,
        "respoolId": {"value": "POOL"},
        "defaultSpec": {"containers": [container]},
    }
    body = json.dumps({"spec": spec}).replace('"POOL"', "\"'$pool'\"")
    made = commands.curl(_url(endpoint), options="-X POST")
    text = f"pool=$({lookup} | jq -r .respoolId.value)\n{made} -d '{body}'"
    return [Snippet("curl", text), Snippet("roundhouse · follow it", commands.roundhouse("watch", JOB))]


def for_one(endpoint: Endpoint, job: Job) -> list[Snippet]:
    url, version = f"{_url(endpoint)}/{job.id}", {"version": {"value": job.version}}
    asked = {"job_id": {"value": job.id}}
    own, restart = f'job = "{job.id}"', {**version, "restartSpec": {"batchSize": 2}}
    delete = commands.query(url, {"version.value": job.version})
    return [
        Snippet("curl", commands.curl(url)),
        Snippet("curl · its pods", commands.curl(f"{url}/pods")),
        Snippet("curl · workflows", commands.curl(f"{url}/workflows")),
        Snippet("curl · restart it, two at a time", _post(f"{url}:restart", restart)),
        Snippet("curl · stop it", _post(f"{url}:stop", version)),
        Snippet("curl · start it", _post(f"{url}:start", version)),
        Snippet("curl · pause its workflow", _post(f"{url}:pause", version)),
        Snippet("curl · change one field", _body(url, {**version, "spec": {"owner": "OWNER"}}, "-X PATCH")),
        Snippet("curl · delete it once it is stopped", commands.curl(delete, options="-X DELETE")),
        Snippet("grpcurl", _grpcurl(endpoint, "GetJob", asked)),
        Snippet("grpcurl · stop it", _grpcurl(endpoint, "StopJob", {**asked, **version})),
        Snippet("roundhouse", commands.roundhouse("get", JOB, job.id, "-o", "yaml")),
        Snippet("roundhouse · history", commands.roundhouse("history", JOB, job.id)),
        Snippet("roundhouse · workflows", commands.roundhouse("list", WORKFLOW, "--filter", own)),
    ]


def for_create(endpoint: Endpoint, spec: JobSpec, how: Message) -> list[Snippet]:
    body = {"spec": job_specs.value(spec), "create_spec": _said(how)}
    return _written(endpoint, _url(endpoint), "-X POST", "CreateJob", body)


def for_replace(endpoint: Endpoint, job: Job, spec: JobSpec, how: Message) -> list[Snippet]:
    body = {
        "version": {"value": job.version},
        "spec": job_specs.value(spec),
        "update_spec": _said(how),
    }
    url = f"{_url(endpoint)}/{job.id}"
    return _written(endpoint, url, "-X PUT", "ReplaceJob", body, {"job_id": {"value": job.id}})


def for_pools(endpoint: Endpoint) -> list[Snippet]:
    plain = commands.grpcurl(endpoint, f"{POOLS}/QueryResourcePools", {})
    manifest = (
        "resource_pools:\n- path: /ml\n  spec:\n    resources:\n"
        "    - {kind: cpu, limit: 8}\n    - {kind: memory, limit: 16384}   # MiB"
    )
    return [
        Snippet("roundhouse · a pool", f"roundhouse apply -f - <<'{_MARK}'\n{manifest}\n{_MARK}"),
        Snippet("roundhouse", commands.roundhouse("list", "resource_pool", "-o", "yaml")),
        Snippet("curl", commands.curl(f"{commands.rest(endpoint)}/v1alpha/resourcePools")),
        Snippet("grpcurl", plain),
    ]


def _written(
    endpoint: Endpoint,
    url: str,
    verb: str,
    method: str,
    body: Mapping[str, Any],
    more: Mapping[str, Any] | None = None,
) -> list[Snippet]:
    """A whole spec: from standard input, so that it can be read."""
    kept = {key: value for key, value in body.items() if value}
    curl = commands.curl(url, options=f"{verb} --data-binary @-")
    asked = raw.to_json({**(more or {}), **kept})
    grpcurl = commands.grpcurl(endpoint, f"{SERVICE}/{method}", {}).replace("-d '{}'", "-d @", 1)
    return [
        Snippet("curl", f"{curl} <<'{_MARK}'\n{raw.to_json(kept)}{_MARK}"),
        Snippet("grpcurl", f"{grpcurl} <<'{_MARK}'\n{asked}{_MARK}"),
    ]


def _url(endpoint: Endpoint) -> str:
    return f"{commands.rest(endpoint)}/v1alpha/jobs"


def _said(message: Message) -> dict[str, Any]:
    return MessageToDict(message, preserving_proto_field_name=True)


def _post(url: str, body: Mapping[str, Any]) -> str:
    return _body(url, body, "-X POST")


def _body(url: str, body: Mapping[str, Any], verb: str) -> str:
    return commands.curl(url, options=f"{verb} -d {shlex.quote(json.dumps(body))}")


def _grpcurl(endpoint: Endpoint, method: str, request: Mapping[str, Any]) -> str:
    return commands.grpcurl(endpoint, f"{SERVICE}/{method}", request)
