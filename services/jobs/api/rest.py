"""Where the RPCs of jobs are over HTTP: Peloton's protos have no annotations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from shared.rpc.method import HttpRule

_JOBS: Final = "/v1alpha/jobs"
_JOB: Final = f"{_JOBS}/{{job_id.value}}"
_POD: Final = "/v1alpha/pods/{pod_name.value}"
_POOLS: Final = "/v1alpha/resourcePools"


def _get(path: str) -> HttpRule:
    return HttpRule("GET", path)


def _post(path: str) -> HttpRule:
    return HttpRule("POST", path, "*")


JOBS: Final[Mapping[str, Sequence[HttpRule]]] = {
    "CreateJob": [_post(_JOBS)],
    "ListJobs": [_get(_JOBS)],
    "QueryJobs": [_post(f"{_JOBS}:query"), _get(f"{_JOBS}:query")],
    "GetJobIDFromJobName": [_get(f"{_JOBS}:lookup")],
    "GetJob": [_get(_JOB)],
    "ReplaceJob": [HttpRule("PUT", _JOB, "*")],
    "PatchJob": [HttpRule("PATCH", _JOB, "*")],
    "DeleteJob": [HttpRule("DELETE", _JOB)],
    "RestartJob": [_post(f"{_JOB}:restart")],
    "PauseJobWorkflow": [_post(f"{_JOB}:pause")],
    "ResumeJobWorkflow": [_post(f"{_JOB}:resume")],
    "AbortJobWorkflow": [_post(f"{_JOB}:abort")],
    "StartJob": [_post(f"{_JOB}:start")],
    "StopJob": [_post(f"{_JOB}:stop")],
    "RefreshJob": [_post(f"{_JOB}:refresh")],
    "GetReplaceJobDiff": [_post(f"{_JOB}:diff")],
    "GetJobCache": [_get(f"{_JOB}/cache")],
    "ListPods": [_get(f"{_JOB}/pods")],
    "QueryPods": [_post(f"{_JOB}/pods:query"), _get(f"{_JOB}/pods:query")],
    "ListJobWorkflows": [_get(f"{_JOB}/workflows")],
    "GetWorkflowEvents": [_get(f"{_JOB}/workflowEvents")],
}
PODS: Final[Mapping[str, Sequence[HttpRule]]] = {
    "GetPod": [_get(_POD)],
    "StartPod": [_post(f"{_POD}:start")],
    "StopPod": [_post(f"{_POD}:stop")],
    "RestartPod": [_post(f"{_POD}:restart")],
    "RefreshPod": [_post(f"{_POD}:refresh")],
    "GetPodEvents": [_get(f"{_POD}/events")],
    "DeletePodEvents": [HttpRule("DELETE", f"{_POD}/events")],
    "BrowsePodSandbox": [_get(f"{_POD}/sandbox")],
    "GetPodCache": [_get(f"{_POD}/cache")],
}
LOGS: Final[Mapping[str, Sequence[HttpRule]]] = {
    "ReadLog": [_get(f"{_POD}/log")],
    "DownloadLog": [_get(f"{_POD}/log:download")],
}
WATCHES: Final[Mapping[str, Sequence[HttpRule]]] = {
    "Watch": [_post("/v1alpha/watches"), _get("/v1alpha/watches")],
    "Cancel": [_post("/v1alpha/watches/{watch_id}:cancel")],
}
POOLS: Final[Mapping[str, Sequence[HttpRule]]] = {
    "QueryResourcePools": [_get(_POOLS)],
    "LookupResourcePoolID": [_get(f"{_POOLS}:lookup")],
    "GetResourcePool": [_get(f"{_POOLS}/{{respool_id.value}}")],
}
