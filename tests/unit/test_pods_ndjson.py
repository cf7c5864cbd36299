"""Fed lines: cut out of pieces however they come, and read as pods and inventory rows."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.pods import ndjson
from services.pods.stored import line_of
from shared.errors import InvalidArgument
from shared.pb.storage.pod_pb2 import ContainerInstance, Pod


async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


@given(st.lists(st.sampled_from([b"a", b"\n", b"bb", b" ", b"\r\n", b""]), max_size=12))
@settings(max_examples=200, deadline=None)
async def test_lines_do_not_depend_on_the_pieces(parts: list[bytes]) -> None:
    found = [line async for line in ndjson.lines(pieces(*parts))]
    whole = b"".join(parts).split(b"\n")
    assert found == [(number, line) for number, line in enumerate(whole, 1) if line.strip()]


async def test_a_line_has_a_length() -> None:
    long = b"x" * (ndjson.MAX_LINE + 1)
    for parts in ((b"{}\n", long), (b"{}\n" + long + b"\n",), (b"{}\n", long[:-9], long[-9:])):
        with pytest.raises(InvalidArgument, match="line 2: is longer"):
            [line async for line in ndjson.lines(pieces(*parts))]


def test_pods_bare_and_as_the_export_writes_them() -> None:
    pod = Pod(id="a", live_instances=[{"exit_code": 3, "finished": {"seconds": 5}}])
    line = line_of(pod)
    assert ndjson.pod(1, line) == pod
    assert ndjson.pod(1, json.dumps(json.loads(line)["result"]["pod"]).encode()) == pod
    # Unknown names are ignored, null is nothing.
    assert ndjson.pod(1, b'{"id": "a", "new": 1, "started": null, "liveInstances": null}') == Pod(id="a")
    assert ndjson.pod(1, b'{"id": "a", "error": null, "code": 1}') == Pod(id="a")
    nulls = dict.fromkeys([field.json_name for field in Pod.DESCRIPTOR.fields])
    instance = dict.fromkeys([field.json_name for field in ContainerInstance.DESCRIPTOR.fields])
    nulls |= {"id": "a", "liveInstances": [instance, {"instanceId": {"containerRuntime": None, "id": None}}]}
    nulls |= {"terminatedInstances": [{"instances": None}]}
    assert ndjson.pod(1, json.dumps(nulls).encode()) == Pod(
        id="a", live_instances=[{}, {"instance_id": {}}], terminated_instances=[{}]
    )
    assert ndjson.pod(1, b'{"id": "a", "deployment_id": "b"}') == Pod(id="a", deployment_id="b")


def test_inventory_rows() -> None:
    cluster = ndjson.inventory_item(1, b'{"kind": "cluster", "id": "c", "name": "prod"}').cluster
    assert (cluster.id, cluster.name) == ("c", "prod")
    row = {
        "kind": "deployment",
        "id": "d",
        "name": "web",
        "type": "Deployment",
        "clusterId": "c",
        "clusterName": "prod",
        "namespace": "n",
        "namespaceId": "i",
        "labels": {"a": "b"},
        "annotations": {"c": "d"},
        "podLabels": {"e": "f"},
        "serviceAccount": "bot",
        "created": "2026-01-01T00:00:00Z",
    }
    found = ndjson.inventory_item(1, json.dumps(row).encode()).deployment
    assert (found.cluster_name, found.pod_labels["e"], found.service_account) == ("prod", "f", "bot")
    assert found.created.seconds == 1767225600


@pytest.mark.parametrize(
    ("read", "line", "said"),
    [
        (ndjson.pod, b"{", "line 7: is not JSON"),
        (ndjson.pod, b"[]", "line 7: must be a JSON object, not an array"),
        (ndjson.pod, b'{"id": 5}', "line 7: id: must be a string"),
        (ndjson.pod, b'{"result": {"pod": {"liveInstances": 1}}}', "line 7: live_instances: must be"),
        (ndjson.pod, b'{"result": {}}', "line 7: must be a JSON object, not null"),
        (
            ndjson.pod,
            b'{"error": {"message": "too late"}}',
            "line 7: the export that is fed did not end well",
        ),
        (ndjson.pod, b'{"error": {}}', "line 7: the export that is fed did not end well"),
        # What an export answers that failed before its first line.
        (
            ndjson.pod,
            b'{"error": "no such label", "code": 3, "message": "no such label", "details": []}',
            "line 7: the export that is fed did not end well: 'no such label'",
        ),
        (ndjson.inventory_item, b"{}", "line 7: kind: must be"),
        (ndjson.inventory_item, b"3", "line 7: kind: must be"),
        (ndjson.inventory_item, b'{"kind": "node"}', "line 7: kind: must be"),
        (ndjson.inventory_item, b'{"kind": "deployment", "labels": []}', "line 7: labels: must be"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(
    read: Callable[[int, bytes], Any], line: bytes, said: str
) -> None:
    with pytest.raises(InvalidArgument, match=said):
        read(7, line)
