"""Bodies of stored pods: what the export cuts out of them is what it promises."""

from __future__ import annotations

import json

from google.protobuf import json_format
from hypothesis import given, settings
from hypothesis import strategies as st

from services.pods import stored
from shared.pb.api.v1.pod_service_pb2 import ExportPodResponse
from shared.pb.roundhouse.pods.v1.pods_pb2 import StoredPod
from shared.pb.storage.pod_pb2 import ContainerInstance, Pod

_text = st.text(max_size=4)
_times = st.builds(
    lambda seconds, nanos: {"seconds": seconds, "nanos": nanos},
    st.integers(-62_135_596_800, 253_402_300_799),
    st.sampled_from([0, 1, 1000, 5_000_000, 999_999_999]),
)
_instances = st.builds(
    ContainerInstance,
    instance_id=st.none() | st.builds(dict, container_runtime=st.integers(0, 3), id=_text, node=_text),
    containing_pod_id=_text,
    container_name=_text,
    container_ips=st.lists(_text, max_size=2),
    started=st.none() | _times,
    finished=st.none() | _times,
    image_digest=_text,
    exit_code=st.integers(-(2**31), 2**31 - 1),
    termination_reason=_text,
)
_pods = st.builds(
    Pod,
    id=_text,
    name=_text | st.just("x" * 200) | st.just("y" * 40_000),
    deployment_id=_text,
    namespace=_text,
    cluster_id=_text,
    live_instances=st.lists(_instances, max_size=2),
    terminated_instances=st.lists(st.builds(dict, instances=st.lists(_instances, max_size=2)), max_size=2),
    started=st.none() | _times,
)


@given(_pods, _text, st.integers(0, 2**62))
@settings(max_examples=150, deadline=None)
def test_the_parts_of_a_body(pod: Pod, source: str, updated_at: int) -> None:
    body = stored.body_of(pod, source, updated_at)
    parsed = StoredPod.FromString(body)
    assert (parsed.pod, parsed.source, parsed.updated_at) == (pod, source, updated_at)
    assert parsed.SerializeToString(deterministic=True) == body
    assert stored.frame(body) == ExportPodResponse(pod=pod).SerializeToString(deterministic=True)
    assert stored.line(body) == parsed.line
    parsed.ClearField("line")
    assert stored.without_line(body) == parsed.SerializeToString(deterministic=True)


@given(_pods)
@settings(max_examples=100, deadline=None)
def test_a_line_is_json_of_every_field(pod: Pod) -> None:
    line = stored.line_of(pod)
    assert line.endswith(b"\n") and line.count(b"\n") == 1
    (found,) = json.loads(line)["result"].values()
    assert json_format.ParseDict(found, Pod()) == pod
    assert list(found) == [field.json_name for field in Pod.DESCRIPTOR.fields]
    for instance in found["liveInstances"]:
        assert list(instance) == [field.json_name for field in ContainerInstance.DESCRIPTOR.fields]


def test_what_is_not_set_is_written() -> None:
    pod = Pod(id="a", live_instances=[{}], terminated_instances=[{}])
    found = json.loads(stored.line_of(pod))["result"]["pod"]
    instance = found.pop("liveInstances")[0]
    assert found == {
        "id": "a",
        "name": "",
        "deploymentId": "",
        "namespace": "",
        "clusterId": "",
        "terminatedInstances": [{"instances": []}],
        "started": None,
    }
    assert instance == {
        "instanceId": None,
        "containingPodId": "",
        "containerName": "",
        "containerIps": [],
        "started": None,
        "imageDigest": "",
        "finished": None,
        "exitCode": 0,
        "terminationReason": "",
    }


def test_enums_by_name_and_times_in_utc() -> None:
    pod = Pod(id="a", started={"seconds": 1_700_000_000, "nanos": 500_000_000})
    pod.live_instances.add(instance_id={"container_runtime": 2}, started={"seconds": 0, "nanos": 1})
    found = json.loads(stored.line_of(pod))["result"]["pod"]
    assert found["started"] == "2023-11-14T22:13:20.500Z"
    (instance,) = found["liveInstances"]
    assert instance["started"] == "1970-01-01T00:00:00.000000001Z"
    assert instance["instanceId"] == {"containerRuntime": "CRIO_CONTAINER_RUNTIME", "id": "", "node": ""}
