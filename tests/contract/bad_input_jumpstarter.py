# ruff: noqa: E501 - a table, one case a line
"""Malformed requests of a Jumpstarter client: what is sent, the code that answers, and the field that is named.

Data only; test_bad_input_jumpstarter.py sends them, as the client `alice` of `lab-1`, where the lease
`before` holds the exporter `bench`. A header of None is left out.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from dataclasses import field as has
from typing import Any
from urllib.parse import quote

from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from grpc import StatusCode

from shared.pb.jumpstarter.client.v1 import client_pb2 as pb
from tests.contract.bad_input import Rest, token

INVALID = StatusCode.INVALID_ARGUMENT
NOT_FOUND = StatusCode.NOT_FOUND
DENIED = StatusCode.PERMISSION_DENIED
UNAUTHENTICATED = StatusCode.UNAUTHENTICATED
PRECONDITION = StatusCode.FAILED_PRECONDITION

PARENT = "namespaces/lab-1"
BENCH = f"{PARENT}/exporters/bench"
BEFORE = f"{PARENT}/leases/before"
_LONG = "x" * 300_000
_PAGE = {"n": "x", "q": "0" * 16}


@dataclass(frozen=True)
class Grpc:
    """`method` is one of ClientService; `headers` replace those of alice."""

    name: str
    method: str
    request: Message | bytes
    code: StatusCode
    field: str = ""
    headers: dict[str, str | None] = has(default_factory=dict)
    more: tuple[tuple[str, str], ...] = ()


def exporters(**fields: Any) -> Message:
    return pb.ListExportersRequest(**({"parent": PARENT} | fields))


def leases(**fields: Any) -> Message:
    return pb.ListLeasesRequest(**({"parent": PARENT} | fields))


def create(*, lease_id: str = "", parent: str = PARENT, **fields: Any) -> Message:
    fields = {"selector": "a", "duration": Duration(seconds=60)} | fields
    wanted = pb.Lease(**{key: value for key, value in fields.items() if value is not None})
    return pb.CreateLeaseRequest(parent=parent, lease_id=lease_id, lease=wanted)


def update(*paths: str, name: str = BEFORE, **fields: Any) -> Message:
    return pb.UpdateLeaseRequest(lease=pb.Lease(name=name, **fields), update_mask=FieldMask(paths=paths))


_SURROGATE = b"\x0a\x03\xed\xa0\x80"

GRPC = (
    # -- bytes
    Grpc("bytes that are no message", "GetExporter", b"\xff\xff\xff", INVALID, "request"),
    Grpc("a truncated message", "CreateLease", b"\x0a\x24abc", INVALID, "request"),
    Grpc("a name of invalid UTF-8", "GetLease", b"\x0a\x02\xff\xfe", INVALID, "request"),
    Grpc("a parent with a lone surrogate", "ListLeases", _SURROGATE, INVALID, "request"),
    Grpc("a group that does not end", "UpdateLease", b"\x0b\x0b\x0b", INVALID, "request"),
    Grpc("more than the largest message", "CreateLease", b"\x0a" * (5 << 20), StatusCode.RESOURCE_EXHAUSTED),
    # -- names
    Grpc("no name", "GetExporter", b"", INVALID, "name"),
    Grpc("no name of a lease", "GetLease", b"", INVALID, "name"),
    Grpc("no parent", "ListExporters", b"", INVALID, "parent"),
    Grpc("no parent to rotate in", "RotateToken", b"", INVALID, "parent"),
    Grpc("no lease to update", "UpdateLease", b"", INVALID, "lease.name"),
    Grpc("no lease to delete", "DeleteLease", b"", INVALID, "name"),
    Grpc("a lease for an exporter", "GetExporter", pb.GetExporterRequest(name=BEFORE), INVALID, "name"),
    Grpc("an exporter for a lease", "DeleteLease", pb.DeleteLeaseRequest(name=BENCH), INVALID, "name"),
    Grpc("a name of 5 segments", "GetLease", pb.GetLeaseRequest(name=f"{BEFORE}/x"), INVALID, "name"),
    Grpc("a name that begins with a slash", "GetLease", pb.GetLeaseRequest(name=f"/{BEFORE}"), INVALID, "name"),
    Grpc("capitals in a name", "GetLease", pb.GetLeaseRequest(name=f"{PARENT}/leases/Before"), INVALID, "name"),
    Grpc("a wildcard", "GetExporter", pb.GetExporterRequest(name=f"{PARENT}/exporters/-"), INVALID, "name"),
    Grpc("a name with a NUL", "GetExporter", pb.GetExporterRequest(name=f"{BENCH}\0"), INVALID, "name"),
    Grpc("a name of 300,000 characters", "GetExporter", pb.GetExporterRequest(name=f"{BENCH}{_LONG}"), INVALID, "name"),
    Grpc("300,000 slashes", "GetLease", pb.GetLeaseRequest(name="/" * 300_000), INVALID, "name"),
    Grpc("a parent with a slash behind", "ListLeases", leases(parent=f"{PARENT}/"), INVALID, "parent"),
    Grpc("a project for a namespace", "ListLeases", leases(parent="projects/lab-1"), INVALID, "parent"),
    Grpc("an unknown exporter", "GetExporter", pb.GetExporterRequest(name=f"{PARENT}/exporters/none"), NOT_FOUND),
    Grpc("an unknown lease", "GetLease", pb.GetLeaseRequest(name=f"{PARENT}/leases/none"), NOT_FOUND),
    Grpc("an unknown lease to update", "UpdateLease", update(name=f"{PARENT}/leases/none"), NOT_FOUND),
    Grpc("an unknown lease to delete", "DeleteLease", pb.DeleteLeaseRequest(name=f"{PARENT}/leases/none"), NOT_FOUND),
    # -- filters
    Grpc("a trailing comma", "ListExporters", exporters(filter="a,"), INVALID, "filter"),
    Grpc("an empty list", "ListExporters", exporters(filter="a in ()"), INVALID, "filter"),
    Grpc("an operator in capitals", "ListExporters", exporters(filter="a IN (b)"), INVALID, "filter"),
    Grpc("three equals signs", "ListExporters", exporters(filter="a===b"), INVALID, "filter"),
    Grpc("a comparison with text", "ListExporters", exporters(filter="a>b"), INVALID, "filter"),
    Grpc("a comparison beyond 64 bits", "ListExporters", exporters(filter=f"a>{2**63}"), INVALID, "filter"),
    Grpc("a key that is none", "ListExporters", exporters(filter="a b/c=d"), INVALID, "filter"),
    Grpc("a prefix that is none", "ListExporters", exporters(filter="A_b/c"), INVALID, "filter"),
    Grpc("a value of 64 characters", "ListExporters", exporters(filter=f"a={'v' * 64}"), INVALID, "filter"),
    Grpc("a value in quotes", "ListExporters", exporters(filter='a="b"'), INVALID, "filter"),
    Grpc("another language", "ListExporters", exporters(filter='name = "a" AND b = 1'), INVALID, "filter"),
    Grpc("a filter with a NUL", "ListExporters", exporters(filter="a=b\0"), INVALID, "filter"),
    Grpc("a filter of 300,000 characters", "ListExporters", exporters(filter=f"a={_LONG}"), INVALID, "filter"),
    Grpc("300,000 parentheses", "ListExporters", exporters(filter="a in " + "(" * 300_000), INVALID, "filter"),
    Grpc("10,000 requirements", "ListExporters", exporters(filter=",".join(["a"] * 10_000)), INVALID, "filter"),
    Grpc("20,000 values", "ListLeases", leases(filter=f"a in ({','.join(['1'] * 20_000)})"), INVALID, "filter"),
    Grpc("a filter of leases", "ListLeases", leases(filter="a="  "b c"), INVALID, "filter"),
    Grpc("a tag filter", "ListLeases", leases(tag_filter="a in"), INVALID, "tag_filter"),
    Grpc("a tag filter with a prefix", "ListLeases", leases(tag_filter="x.io/a=b"), INVALID, "tag_filter"),
    # -- pages
    Grpc("a negative page size", "ListExporters", exporters(page_size=-1), INVALID, "page_size"),
    Grpc("the least page size", "ListLeases", leases(page_size=-(2**31)), INVALID, "page_size"),
    Grpc("a page token that is none", "ListExporters", exporters(page_token="abc"), INVALID, "page_token"),
    Grpc("a token beyond ASCII", "ListExporters", exporters(page_token="ä\U0001f682"), INVALID, "page_token"),
    Grpc("a token of 2 MB", "ListExporters", exporters(page_token="A" * (2 << 20)), INVALID, "page_token"),
    Grpc("a token that holds a list", "ListExporters", exporters(page_token=token([1])), INVALID, "page_token"),
    Grpc("a token of nothing", "ListExporters", exporters(page_token=token({})), INVALID, "page_token"),
    Grpc("a token of another query", "ListExporters", exporters(page_token=token(_PAGE)), INVALID, "page_token"),
    Grpc("a token of another version", "ListLeases", leases(page_token=token(_PAGE, version=2)), INVALID, "page_token"),
    Grpc("a token with a number for a name", "ListLeases", leases(page_token=token({"n": 1, "q": "0" * 16})), INVALID, "page_token"),
    # -- creating
    Grpc("no lease", "CreateLease", pb.CreateLeaseRequest(parent=PARENT), INVALID, "lease"),
    Grpc("an empty lease", "CreateLease", create(selector="", duration=None), INVALID, "lease.selector"),
    Grpc("an empty exporter", "CreateLease", create(selector="", exporter_name=""), INVALID, "lease.selector"),
    Grpc("a full name for an exporter", "CreateLease", create(exporter_name=BENCH), INVALID, "lease.exporter_name"),
    Grpc("an exporter in capitals", "CreateLease", create(exporter_name="Bench"), INVALID, "lease.exporter_name"),
    Grpc("an exporter of 300,000 characters", "CreateLease", create(exporter_name=_LONG), INVALID, "lease.exporter_name"),
    Grpc("a selector that compares", "CreateLease", create(selector="a>1"), INVALID, "lease.selector"),
    Grpc("a selector that cannot be met", "CreateLease", create(selector="a=1,a=2"), INVALID, "lease.selector"),
    Grpc("a broken selector", "CreateLease", create(selector="a in (b"), INVALID, "lease.selector"),
    Grpc("an id in capitals", "CreateLease", create(lease_id="Mine"), INVALID, "lease_id"),
    Grpc("an id with a slash", "CreateLease", create(lease_id="a/b"), INVALID, "lease_id"),
    Grpc("an id of blanks", "CreateLease", create(lease_id=" "), INVALID, "lease_id"),
    Grpc("an id of 254 characters", "CreateLease", create(lease_id="a" * 254), INVALID, "lease_id"),
    Grpc("an id that is taken", "CreateLease", create(lease_id="before"), StatusCode.ALREADY_EXISTS),
    Grpc("no duration", "CreateLease", create(duration=None), INVALID, "lease.duration"),
    Grpc("a duration of nothing", "CreateLease", create(duration=Duration()), INVALID, "lease.duration"),
    Grpc("a negative duration", "CreateLease", create(duration=Duration(seconds=-1)), INVALID, "lease.duration"),
    Grpc("a duration that is none", "CreateLease", create(duration=Duration(seconds=1, nanos=-1)), INVALID, "lease.duration"),
    Grpc("a duration of 2^63 s", "CreateLease", create(duration=Duration(seconds=2**63 - 1)), INVALID, "lease.duration"),
    Grpc("a begin that is none", "CreateLease", create(begin_time=Timestamp(nanos=-1)), INVALID, "lease.begin_time"),
    Grpc("an end beyond the calendar", "CreateLease", create(end_time=Timestamp(seconds=2**62)), INVALID, "lease.end_time"),
    Grpc("a span beyond the calendar", "CreateLease", create(begin_time=Timestamp(seconds=253_402_300_799)), INVALID, "lease.duration"),
    Grpc("an end before the begin", "CreateLease", create(duration=None, begin_time=Timestamp(seconds=9), end_time=Timestamp(seconds=8)), INVALID, "lease.end_time"),
    Grpc("times that disagree", "CreateLease", create(begin_time=Timestamp(seconds=1), end_time=Timestamp(seconds=2)), INVALID, "lease.duration"),
    Grpc("eleven tags", "CreateLease", create(tags={str(n): "" for n in range(11)}), INVALID, "lease.tags"),
    Grpc("10,000 tags", "CreateLease", create(tags={str(n): "" for n in range(10_000)}), INVALID, "lease.tags"),
    Grpc("a tag of ours", "CreateLease", create(tags={"jumpstarter.dev/x": ""}), INVALID, "lease.tags['jumpstarter.dev/x']"),
    Grpc("a tag of 64 characters", "CreateLease", create(tags={"a": "v" * 64}), INVALID, "lease.tags['a']"),
    Grpc("a tag with a long key", "CreateLease", create(tags={_LONG: ""}), INVALID, f"lease.tags['{'x' * 64}']"),
    Grpc("nine of context", "CreateLease", create(context={str(n): "" for n in range(9)}), INVALID, "lease.context"),
    Grpc("context without a key", "CreateLease", create(context={"": "a"}), INVALID, "lease.context['']"),
    Grpc("context of 65 characters", "CreateLease", create(context={"a": "v" * 65}), INVALID, "lease.context['a']"),
    # -- updating
    Grpc("a mask of what is immutable", "UpdateLease", update("selector", selector="a"), INVALID, "update_mask"),
    Grpc("a mask that is none", "UpdateLease", update("nope"), INVALID, "update_mask"),
    Grpc("a mask that goes too deep", "UpdateLease", update("duration.seconds", duration=Duration(seconds=1)), INVALID, "update_mask"),
    Grpc("a mask in camel case", "UpdateLease", update("beginTime"), INVALID, "update_mask"),
    Grpc("a mask of everything", "UpdateLease", update("*"), INVALID, "update_mask"),
    Grpc("10,000 paths", "UpdateLease", update(*["nope"] * 10_000), INVALID, "update_mask"),
    Grpc("a duration that is unset", "UpdateLease", update("duration"), INVALID, "lease.duration"),
    Grpc("a duration of nothing, later", "UpdateLease", update(duration=Duration()), INVALID, "lease.duration"),
    Grpc("an end before its begin", "UpdateLease", update(end_time=Timestamp(seconds=1)), INVALID, "lease.end_time"),
    Grpc("another begin", "UpdateLease", update(begin_time=Timestamp(seconds=1)), PRECONDITION),
    Grpc("an end that is none", "UpdateLease", update(end_time=Timestamp(nanos=-1)), INVALID, "lease.end_time"),
    Grpc("an heir without a name", "UpdateLease", update(client=""), INVALID, "lease.client"),
    Grpc("an heir that is an exporter", "UpdateLease", update(client=BENCH), INVALID, "lease.client"),
    Grpc("an heir in another namespace", "UpdateLease", update(client="namespaces/x/clients/y"), INVALID, "lease.client"),
    Grpc("an heir that is not there", "UpdateLease", update(client=f"{PARENT}/clients/nobody"), NOT_FOUND),
    # -- who calls
    Grpc("another namespace", "ListLeases", leases(parent="namespaces/lab-2"), DENIED),
    Grpc("another namespace's name", "GetLease", pb.GetLeaseRequest(name="namespaces/lab-2/leases/x"), DENIED),
    Grpc("no token", "ListLeases", leases(), UNAUTHENTICATED, headers={"authorization": None}),
    Grpc("a token that is none", "ListLeases", leases(), UNAUTHENTICATED, headers={"authorization": "Bearer x.y.z"}),
    Grpc("another scheme", "ListLeases", leases(), INVALID, "authorization", {"authorization": "Basic eDp5"}),
    Grpc("no kind", "ListLeases", leases(), INVALID, "jumpstarter-kind", {"jumpstarter-kind": None}),
    Grpc("no namespace", "ListLeases", leases(), INVALID, "jumpstarter-namespace", {"jumpstarter-namespace": None}),
    Grpc("no name of who calls", "ListLeases", leases(), INVALID, "jumpstarter-name", {"jumpstarter-name": None}),
    Grpc("an exporter's call", "ListLeases", leases(), INVALID, "jumpstarter-kind", {"jumpstarter-kind": "Exporter"}),
    Grpc("a kind that is none", "ListLeases", leases(), INVALID, "jumpstarter-kind", {"jumpstarter-kind": "client"}),
    Grpc("two names", "ListLeases", leases(), INVALID, "jumpstarter-name", more=(("jumpstarter-name", "alice"),)),
    Grpc("two tokens", "ListLeases", leases(), INVALID, "authorization", more=(("authorization", "Bearer x"),)),
    Grpc("another client's name", "ListLeases", leases(), DENIED, headers={"jumpstarter-name": "bob"}),
)  # fmt: skip

_V1 = f"/v1/{PARENT}"
REST = (
    # -- bodies
    Rest("no JSON", "POST", f"{_V1}/leases", "{", INVALID, "body"),
    Rest("a list", "POST", f"{_V1}/leases", "[]", INVALID, "body"),
    Rest("null", "POST", f"{_V1}/leases", "null", INVALID, "body"),
    Rest("invalid UTF-8", "POST", f"{_V1}/leases", b'{"selector": "\xff"}', INVALID, "body"),
    Rest("nothing", "POST", f"{_V1}/leases", "", INVALID, "lease.selector"),
    Rest("an unknown member", "POST", f"{_V1}/leases", {"selectors": "a"}, INVALID, "selectors"),
    Rest("a number for a selector", "POST", f"{_V1}/leases", {"selector": 5}, INVALID, "lease.selector"),
    Rest("a number for a duration", "POST", f"{_V1}/leases", {"selector": "a", "duration": 300}, INVALID, "lease.duration"),
    Rest("minutes for a duration", "POST", f"{_V1}/leases", {"selector": "a", "duration": "5m"}, INVALID, "lease.duration"),
    Rest("a time that is none", "POST", f"{_V1}/leases", {"selector": "a", "duration": "5s", "beginTime": "now"}, INVALID, "lease.begin_time"),
    Rest("tags that are a list", "POST", f"{_V1}/leases", {"selector": "a", "duration": "5s", "tags": ["a"]}, INVALID, "lease.tags"),
    Rest("a tag that is a number", "POST", f"{_V1}/leases", {"selector": "a", "duration": "5s", "tags": {"a": 1}}, INVALID, "lease.tags['a']"),
    Rest("deep nesting", "POST", f"{_V1}/leases", '{"tags":' * 2000 + "1" + "}" * 2000, INVALID, "body"),
    Rest("an id that is none", "POST", f"{_V1}/leases?leaseId=A", {"selector": "a", "duration": "5s"}, INVALID, "lease_id"),
    Rest("an id that is taken", "POST", f"{_V1}/leases?lease_id=before", {"selector": "a", "duration": "5s"}, StatusCode.ALREADY_EXISTS, "exists"),
    Rest("a patch of what is immutable", "PATCH", f"/v1/{BEFORE}", {"selector": "b"}, INVALID, "update_mask"),
    Rest("a mask of what is immutable", "PATCH", f"/v1/{BEFORE}?updateMask=tags", {"duration": "5s"}, INVALID, "update_mask"),
    Rest("a mask that is none", "PATCH", f"/v1/{BEFORE}?updateMask=a..b", {"duration": "5s"}, INVALID, "update_mask"),
    Rest("a duration of null", "PATCH", f"/v1/{BEFORE}", {"duration": None}, INVALID, "lease.duration"),
    Rest("an heir that is a number", "PATCH", f"/v1/{BEFORE}", {"client": 7}, INVALID, "lease.client"),
    Rest("a body to rotate", "POST", f"{_V1}/rotate-token", {"ttl": "1s"}, INVALID, "ttl"),
    # -- paths
    Rest("an unknown collection", "GET", f"{_V1}/clients", "", NOT_FOUND),
    Rest("an unknown lease", "GET", f"{_V1}/leases/none", "", NOT_FOUND),
    Rest("a wrong verb", "PUT", f"/v1/{BEFORE}", "{}", StatusCode.UNIMPLEMENTED),
    Rest("capitals in a name", "GET", f"{_V1}/leases/Before", "", INVALID, "name"),
    Rest("an encoded slash", "GET", f"{_V1}/leases/a%2Fb", "", INVALID, "name"),
    Rest("invalid UTF-8 in a name", "GET", f"{_V1}/leases/%ff", "", INVALID, "name"),
    Rest("a namespace that is none", "GET", "/v1/namespaces/A/leases", "", INVALID, "parent"),
    # -- queries
    Rest("a page size that is none", "GET", f"{_V1}/leases?pageSize=x", "", INVALID, "page_size"),
    Rest("a negative page size", "GET", f"{_V1}/exporters?page_size=-1", "", INVALID, "page_size"),
    Rest("an unknown parameter", "GET", f"{_V1}/exporters?selector=a", "", INVALID, "selector"),
    Rest("a flag that is none", "GET", f"{_V1}/leases?onlyActive=maybe", "", INVALID, "only_active"),
    Rest("a filter that is none", "GET", f"{_V1}/exporters?filter={quote('a in ()')}", "", INVALID, "filter"),
    Rest("two filters", "GET", f"{_V1}/exporters?filter=a&filter=b", "", INVALID, "filter"),
    Rest("a token that is none", "GET", f"{_V1}/leases?pageToken=x", "", INVALID, "page_token"),
    # -- who calls
    Rest("no token", "GET", f"{_V1}/leases", "", UNAUTHENTICATED, headers={"Authorization": ""}),
    Rest("another scheme", "GET", f"{_V1}/leases", "", INVALID, "authorization", {"Authorization": "Digest x"}),
    Rest("another client's name", "GET", f"{_V1}/leases", "", DENIED, headers={"jumpstarter-name": "bob"}),
    Rest("an exporter's call", "GET", f"{_V1}/leases", "", INVALID, "jumpstarter-kind", {"jumpstarter-kind": "Exporter"}),
)  # fmt: skip

_RULE = {"from": [{"client_selector": {}}]}
# Lists of a manifest that is refused, and the field that is named.
MANIFESTS: tuple[tuple[str, dict[str, Any], str], ...] = (
    ("an exporter without a name", {"exporters": [{}]}, "exporters[0].name"),
    ("an exporter elsewhere", {"exporters": [{"name": "exporters/x"}]}, "exporters[0].name"),
    ("a client called as an exporter", {"clients": [{"name": BENCH}]}, "clients[0].name"),
    ("a label that is none", {"exporters": [{"name": BENCH, "labels": {"a b": "c"}}]}, "exporters[0].labels['a b']"),
    ("a label of the exporter's own", {"exporters": [{"name": BENCH, "labels": {"jumpstarter.dev/x": "1"}}]}, "exporters[0].labels['jumpstarter.dev/x']"),
    ("a field of the server's own", {"exporters": [{"name": BENCH, "lease": BEFORE}]}, "exporters[0].lease"),
    ("a client's uid", {"clients": [{"name": f"{PARENT}/clients/alice", "uid": "x"}]}, "clients[0].uid"),
    ("65 labels", {"clients": [{"name": f"{PARENT}/clients/x", "labels": {f"k{n}": "" for n in range(65)}}]}, "clients[0].labels"),
    ("a selector's operator", {"access_policies": [{"name": f"{PARENT}/accessPolicies/p", "exporter_selector": {
        "match_expressions": [{"key": "a", "operator": "Like"}]}}]}, "access_policies[0].exporter_selector.match_expressions[0].operator"),
    ("a client selector without values", {"access_policies": [{"name": f"{PARENT}/accessPolicies/p", "policies": [
        {"from": [{"client_selector": {"match_expressions": [{"key": "a", "operator": "In"}]}}]}]}]},
     "access_policies[0].policies[0].from[0].client_selector.match_expressions[0].values"),
    ("a rule for no time at all", {"access_policies": [{"name": f"{PARENT}/accessPolicies/p", "policies": [{**_RULE, "maximum_duration": "0s"}]}]},
     "access_policies[0].policies[0].maximum_duration"),
    ("101 rules", {"access_policies": [{"name": f"{PARENT}/accessPolicies/p", "policies": [_RULE] * 101}]}, "access_policies[0].policies"),
    ("a policy called as a lease", {"access_policies": [{"name": BEFORE}]}, "access_policies[0].name"),
    ("leases", {"leases": [{"name": BEFORE}]}, "leases"),
)  # fmt: skip


def manifest(lists: dict[str, Any]) -> str:
    return json.dumps(lists)
