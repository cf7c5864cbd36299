# ruff: noqa: E501 - a table, one case a line
"""Malformed requests to the catalogue: what is sent, the code that answers, and the field that is named.

Data only; test_bad_input_meta.py sends them.
"""

from __future__ import annotations

import base64
import json
from urllib.parse import quote

from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from grpc import StatusCode

from shared.pb.edgelq_sdk.meta.proto.v1alpha2 import deployment_service_pb2 as deployments
from shared.pb.edgelq_sdk.meta.proto.v1alpha2 import region_service_pb2 as regions
from shared.pb.edgelq_sdk.meta.proto.v1alpha2 import service_service_pb2 as services
from shared.pb.roundhouse.admin.v1 import admin_pb2 as admin
from tests.contract.bad_input import Grpc, Rest, token

INVALID = StatusCode.INVALID_ARGUMENT
NOT_FOUND = StatusCode.NOT_FOUND
UNAUTHENTICATED = StatusCode.UNAUTHENTICATED
PRECONDITION = StatusCode.FAILED_PRECONDITION
_REGIONS = "/ntt.meta.v1alpha2.RegionService/"
_DEPLOYMENTS = "/ntt.meta.v1alpha2.DeploymentService/"
_SERVICES = "/ntt.meta.v1alpha2.ServiceService/"
_ADMIN = "/roundhouse.admin.v1.AdminService/"
_LIST = f"{_REGIONS}ListRegions"
_GET = f"{_REGIONS}GetRegion"
_BATCH = f"{_REGIONS}BatchGetRegions"
_WATCH = f"{_REGIONS}WatchRegions"
_ONE = f"{_REGIONS}WatchRegion"
STATELESS = 1


def listing(**fields: object) -> Message:
    return regions.ListRegionsRequest(**fields)  # type: ignore[arg-type]


def filtered(text: str) -> Message:
    return regions.ListRegionsRequest(filter=text)


def watching(**fields: object) -> Message:
    return regions.WatchRegionsRequest(**fields)  # type: ignore[arg-type]


def masked(*paths: str) -> Message:
    return regions.GetRegionRequest(name="regions/before", field_mask=FieldMask(paths=paths))


def page(payload: object, *, key: str = "rh", head: str = "r.e.C") -> str:
    """A page token in the outer grammar, holding whatever."""
    inner = token(payload)
    return f"{head}.{base64.b64encode(key.encode()).decode()}:{base64.b64encode(inner.encode()).decode()}"


def apply(*, prune: bool = False, **lists: object) -> Message:
    return admin.ApplyRequest(manifest=json.dumps(lists), prune=prune)


_LONG = "x" * 300_000
_PLACE = {"k": [], "n": "regions/a", "q": "0" * 16}
_SERVICE = {"name": "services/a", "current_version": "v", "all_versions": ["v"]}
_SURROGATE = b"\x2a\x03\xed\xa0\x80"

GRPC = (
    # -- bytes
    Grpc("bytes that are no message", _GET, b"\xff\xff\xff", INVALID, "request"),
    Grpc("a name of invalid UTF-8", _GET, b"\x0a\x02\xff\xfe", INVALID, "request"),
    Grpc("a filter with a lone surrogate", _LIST, _SURROGATE, INVALID, "request"),
    Grpc("a truncated mask", _LIST, b"\x32\x7f\x0a", INVALID, "request"),
    Grpc("random bytes to a watch", _WATCH, b"\x07garbage", INVALID, "request"),
    Grpc("random bytes to a watch of one", _ONE, b"\x0b\x0b", INVALID, "request"),
    Grpc("more than the largest message", _BATCH, b"\x12" * (5 << 20), StatusCode.RESOURCE_EXHAUSTED),
    # -- names
    Grpc("no name", _GET, b"", INVALID, "name"),
    Grpc("another collection's name", _GET, regions.GetRegionRequest(name="services/a"), INVALID, "name"),
    Grpc("a name with NUL", _GET, regions.GetRegionRequest(name="regions/a\0b"), INVALID, "name"),
    Grpc("a name with a line feed", _GET, regions.GetRegionRequest(name="regions/ab\n"), INVALID, "name"),
    Grpc("a name of 300,000 characters", _GET, regions.GetRegionRequest(name="regions/" + _LONG), INVALID, "name"),
    Grpc("a name beyond the basic plane", _GET, regions.GetRegionRequest(name="regions/\U0010ffff"), INVALID, "name"),
    Grpc("a wildcard", _GET, regions.GetRegionRequest(name="regions/-"), INVALID, "name"),
    Grpc("a name that is not there", _GET, regions.GetRegionRequest(name="regions/none"), NOT_FOUND),
    Grpc("a watch of what is not there", _ONE, regions.WatchRegionRequest(name="regions/none"), NOT_FOUND),
    Grpc("a watch of a wildcard", _ONE, regions.WatchRegionRequest(name="regions/-"), INVALID, "name"),
    Grpc("one bad name of many", _BATCH, regions.BatchGetRegionsRequest(names=["regions/a1", "x"]), INVALID, "names[1]"),
    Grpc("1001 names", _BATCH, regions.BatchGetRegionsRequest(names=[f"regions/r{n}" for n in range(1001)]), INVALID, "names"),
    Grpc("no parent", f"{_DEPLOYMENTS}ListDeployments", b"", INVALID, "parent"),
    Grpc("a parent that is a deployment", f"{_DEPLOYMENTS}ListDeployments",
         deployments.ListDeploymentsRequest(parent="regions/a/deployments/b"), INVALID, "parent"),
    Grpc("a watch without a parent", f"{_DEPLOYMENTS}WatchDeployments", b"", INVALID, "parent"),
    # -- views and masks
    Grpc("an unknown view", _GET, regions.GetRegionRequest(name="regions/before", view=5), INVALID, "view"),  # type: ignore[arg-type]
    Grpc("a negative view", _LIST, b"\x38" + b"\xff" * 9 + b"\x01", INVALID, "view"),
    Grpc("an unknown path", _GET, masked("nothing"), INVALID, "field_mask"),
    Grpc("an empty path", _GET, masked(""), INVALID, "field_mask"),
    Grpc("a path below a scalar", _GET, masked("title.x"), INVALID, "field_mask"),
    Grpc("a path below a map key", _GET, masked("metadata.labels.a.b"), INVALID, "field_mask"),
    Grpc("a path that ends in a dot", _GET, masked("metadata."), INVALID, "field_mask"),
    Grpc("a path of dots", _GET, masked("..."), INVALID, "field_mask"),
    Grpc("a path of 300,000 characters", _GET, masked(_LONG), INVALID, "field_mask"),
    Grpc("a path nested 10,000 deep", _GET, masked(".".join(["metadata"] * 10_000)), INVALID, "field_mask"),
    # -- lists
    Grpc("a negative page_size", _LIST, listing(page_size=-1), INVALID, "page_size"),
    Grpc("an order by nothing", _LIST, listing(order_by=","), INVALID, "order_by"),
    Grpc("an order by a message", _LIST, listing(order_by="location"), INVALID, "order_by"),
    Grpc("an order by a list", _LIST, listing(order_by="metadata.tags desc"), INVALID, "order_by"),
    Grpc("an order of 300,000 characters", _LIST, listing(order_by=_LONG), INVALID, "order_by"),
    Grpc("SQL as an order", _LIST, listing(order_by="title; DROP TABLE versions"), INVALID, "order_by"),
    Grpc("an order with NUL", _LIST, listing(order_by="title\0"), INVALID, "order_by"),
    # -- filters
    Grpc("half a filter", _LIST, filtered("title ="), INVALID, "filter"),
    Grpc("single quotes", _LIST, filtered("title = 'x'"), INVALID, "filter"),
    Grpc("an open quote", _LIST, filtered('title = "x'), INVALID, "filter"),
    Grpc("an unknown field", _LIST, filtered('colour = "x"'), INVALID, "filter"),
    Grpc("a number for a text", _LIST, filtered("title = 1"), INVALID, "filter"),
    Grpc("a text for a number", _LIST, filtered('metadata.generation = "1"'), INVALID, "filter"),
    Grpc("a number beyond int64", _LIST, filtered("metadata.generation = 9223372036854775808"), INVALID, "filter"),
    Grpc("a number of 5,000 digits", _LIST, filtered("metadata.generation = " + "9" * 5000), INVALID, "filter"),
    Grpc("a number that is none", _LIST, filtered("metadata.generation = 1.2.3"), INVALID, "filter"),
    Grpc("a time that is none", _LIST, filtered('metadata.create_time > "yesterday"'), INVALID, "filter"),
    Grpc("the year 10000", _LIST, filtered('metadata.create_time > "10000-01-01T00:00:00Z"'), INVALID, "filter"),
    Grpc("an enum value that is none", _LIST, filtered('metadata.lifecycle.state = "DEAD"'), INVALID, "filter"),
    Grpc("a name that is none", _LIST, filtered('name = "x"'), INVALID, "filter"),
    Grpc("less than a message", _LIST, filtered('location < {"city": "x"}'), INVALID, "filter"),
    Grpc("less than null", _LIST, filtered("title < NULL"), INVALID, "filter"),
    Grpc("an operator that is none", _LIST, filtered('title <> "x"'), INVALID, "filter"),
    Grpc("an empty list", _LIST, filtered("title IN ()"), INVALID, "filter"),
    Grpc("101 entries", _LIST, filtered("title IN (" + ",".join(['"x"'] * 101) + ")"), INVALID, "filter"),
    Grpc("201 conditions", _LIST, filtered(" OR ".join(['title = "x"'] * 201)), INVALID, "filter"),
    Grpc("33 levels", _LIST, filtered("(" * 33 + 'title = "x"' + ")" * 33), INVALID, "filter"),
    Grpc("2,000 levels", _LIST, filtered("(" * 2000), INVALID, "filter"),
    Grpc("1,000 times NOT", _LIST, filtered("NOT " * 1000 + 'title = "x"'), INVALID, "filter"),
    Grpc("8 KiB and more", _LIST, filtered('title = "' + "x" * 8192 + '"'), INVALID, "filter"),
    Grpc("LIKE on a number", _LIST, filtered('metadata.generation LIKE "1%"'), INVALID, "filter"),
    Grpc("a lone surrogate in quotes", _LIST, filtered('title = "\\ud800"'), INVALID, "filter"),
    Grpc("a bad filter of a watch", _WATCH, watching(filter="title ="), INVALID, "filter"),
    # -- page tokens
    Grpc("a page token that is none", _LIST, listing(page_token="x"), INVALID, "page_token"),
    Grpc("a page token without a value", _LIST, listing(page_token="r.e.C."), INVALID, "page_token"),
    Grpc("an offset token", _LIST, listing(page_token="r.e.O.10"), INVALID, "page_token"),
    Grpc("a snapshot token", _LIST, listing(page_token="r.e.S.eA=="), INVALID, "page_token"),
    Grpc("a token of an unknown direction", _LIST, listing(page_token=page(_PLACE, head="u.e.C")), INVALID, "page_token"),
    Grpc("a token of another key", _LIST, listing(page_token=page(_PLACE, key="name")), INVALID, "page_token"),
    Grpc("a token of another query", _LIST, listing(page_token=page(_PLACE)), INVALID, "page_token"),
    Grpc("a token with an array for a name", _LIST, listing(page_token=page({**_PLACE, "n": []})), INVALID, "page_token"),
    Grpc("a token with a key too much", _LIST, listing(page_token=page({**_PLACE, "z": 1})), INVALID, "page_token"),
    Grpc("a token that is an array", _LIST, listing(page_token=page([1])), INVALID, "page_token"),
    Grpc("a token of 300,000 characters", _LIST, listing(page_token="r.e.C." + _LONG), INVALID, "page_token"),
    # -- watches
    Grpc("an unknown type", _WATCH, watching(type=2), INVALID, "type"),
    Grpc("a chunk of 101", _WATCH, watching(max_chunk_size=101), INVALID, "max_chunk_size"),
    Grpc("a negative chunk", _WATCH, watching(max_chunk_size=-1, type=STATELESS), INVALID, "max_chunk_size"),
    Grpc("a page of a stateless watch", _WATCH, watching(page_size=1, type=STATELESS), INVALID, "page_size"),
    Grpc("an order of a stateless watch", _WATCH, watching(order_by="title", type=STATELESS), INVALID, "order_by"),
    Grpc("a page token of a stateless watch", _WATCH, watching(page_token="x", type=STATELESS), INVALID, "page_token"),
    Grpc("a resume token of a stateful watch", _WATCH, watching(resume_token="x"), INVALID, "resume_token"),
    Grpc("a time of a stateful watch", _WATCH, watching(starting_time=Timestamp()), INVALID, "starting_time"),
    Grpc("a token and a time", _WATCH, watching(type=STATELESS, resume_token="x", starting_time=Timestamp()), INVALID, "starting_time"),
    Grpc("a time in the future", _WATCH, watching(type=STATELESS, starting_time=Timestamp(seconds=2**35)), INVALID, "starting_time"),
    Grpc("a time beyond all times", _WATCH, watching(type=STATELESS, starting_time=Timestamp(seconds=2**62)), INVALID, "starting_time"),
    Grpc("a time with negative nanoseconds", _WATCH, watching(type=STATELESS, starting_time=Timestamp(nanos=-1)), INVALID, "starting_time"),
    Grpc("a resume token that is none", _WATCH, watching(type=STATELESS, resume_token="x"), INVALID, "resume_token"),
    Grpc("a resume token with a negative revision", _WATCH,
         watching(type=STATELESS, resume_token=token({"e": "x", "r": -1, "f": "x"})), INVALID, "resume_token"),
    Grpc("a resume token with a huge revision", _WATCH,
         watching(type=STATELESS, resume_token=token({"e": "x", "r": 2**63, "f": "x"})), INVALID, "resume_token"),
    Grpc("a resume token of another query", _WATCH,
         watching(type=STATELESS, resume_token=token({"e": "x", "r": 1, "f": "x"})), INVALID, "resume_token"),
    Grpc("a resume token of 300,000 characters", _WATCH, watching(type=STATELESS, resume_token=_LONG), INVALID, "resume_token"),
    # -- headers
    Grpc("no token", _LIST, b"", UNAUTHENTICATED, metadata={"authorization": ""}),
    Grpc("a token that is no JWT", _WATCH, b"", UNAUTHENTICATED, metadata={"authorization": "Bearer abc"}),
    # -- what is not there
    Grpc("a write", f"{_REGIONS}CreateRegion", b"", StatusCode.UNIMPLEMENTED),
    Grpc("a method of another version", "/ntt.meta.v1.RegionService/GetRegion", b"", StatusCode.UNIMPLEMENTED),
    # -- manifests
    Grpc("an id that is none", f"{_ADMIN}Apply", apply(regions=[{"name": "regions/A"}]), INVALID, "regions[0].name"),
    Grpc("what the server sets", f"{_ADMIN}Apply", apply(regions=[{"name": "regions/aa", "metadata": {"uuid": "x"}}]), INVALID, "regions[0].metadata.uuid"),
    Grpc("a list that is none", f"{_ADMIN}Apply", apply(pods=[]), INVALID, "pods"),
    Grpc("a reference to nothing", f"{_ADMIN}Apply", apply(resources=[{"name": "services/none/resources/Job"}]), INVALID, "resources[0].name"),
    Grpc("two defaults", f"{_ADMIN}Apply", apply(regions=[{"name": f"regions/r{n}", "is_default": True} for n in range(2)]), INVALID, "regions[1]"),
    Grpc("a version twice", f"{_ADMIN}Apply", apply(services=[{**_SERVICE, "all_versions": ["v", "v"]}]), INVALID, "services[0].all_versions"),
    Grpc("a score beyond int32", f"{_ADMIN}Apply",
         apply(regions=[{"name": "regions/aa", "connectivity_scores": [{"dest": "regions/aa", "score": 2**31}]}]), INVALID, "regions[0]"),
    Grpc("a label that is no text", f"{_ADMIN}Apply", apply(regions=[{"name": "regions/aa", "metadata": {"labels": {"a": 1}}}]), INVALID, "regions[0]"),
    Grpc("a time that is no time", f"{_ADMIN}Apply", apply(regions=[{"name": "regions/aa", "metadata": {"create_time": "x"}}]), INVALID, "regions[0]"),
    Grpc("33 KiB", f"{_ADMIN}Apply", apply(regions=[{"name": "regions/aa", "title": "x" * 33_000}]), INVALID, "regions[0]"),
    Grpc("prune of what is needed", f"{_ADMIN}Apply", apply(prune=True, services=[]), INVALID, "*"),
    Grpc("removal of what is needed", f"{_ADMIN}Delete", admin.DeleteRequest(kind="service", name="services/before"), PRECONDITION),
    Grpc("another service's mask", f"{_SERVICES}ListServices",
         services.ListServicesRequest(field_mask=FieldMask(paths=["title"])), INVALID, "field_mask"),
)  # fmt: skip

_TEXT_QUERY = "/v1alpha2/regions?filter="

REST = (
    Rest("an unknown parameter", "GET", "/v1alpha2/regions?nothing=1", "", INVALID, "nothing"),
    Rest("a parameter twice", "GET", "/v1alpha2/regions?page_size=1&page_size=2", "", INVALID, "page_size"),
    Rest("a size that is no number", "GET", "/v1alpha2/regions?page_size=x", "", INVALID, "page_size"),
    Rest("a size beyond int32", "GET", "/v1alpha2/regions?page_size=4294967296", "", INVALID, "page_size"),
    Rest("a view that is none", "GET", "/v1alpha2/regions?view=WIDE", "", INVALID, "view"),
    Rest("a switch that is none", "GET", "/v1alpha2/regions?include_paging_info=yes", "", INVALID, "include_paging_info"),
    Rest("a mask of commas", "GET", "/v1alpha2/regions?field_mask=,,", "", INVALID, "field_mask"),
    Rest("an escape that is none", "GET", "/v1alpha2/regions?filter=%zz", "", INVALID, "filter"),
    Rest("bytes that are no UTF-8", "GET", "/v1alpha2/regions?filter=%ff", "", INVALID, "filter"),
    Rest("a surrogate in UTF-8", "GET", "/v1alpha2/regions/%ed%a0%80", "", INVALID),
    Rest("half a filter", "GET", _TEXT_QUERY + quote("title ="), "", INVALID, "filter"),
    Rest("SQL as a filter", "GET", _TEXT_QUERY + quote("1=1; DROP TABLE versions --"), "", INVALID, "filter"),
    Rest("a filter of 60,000 characters", "GET", _TEXT_QUERY + "x" * 60_000, "", INVALID, "filter"),
    Rest("a wildcard", "GET", "/v1alpha2/regions/-", "", INVALID, "name"),
    Rest("an encoded slash", "GET", "/v1alpha2/regions/a%2Fb", "", INVALID, "name"),
    Rest("a NUL", "GET", "/v1alpha2/regions/a%00", "", INVALID, "name"),
    Rest("a parent with a blank", "GET", "/v1alpha2/regions/a%20b/deployments", "", INVALID, "parent"),
    Rest("no such region", "GET", "/v1alpha2/regions/none", "", NOT_FOUND),
    Rest("no such route", "GET", "/v1alpha2/planets", "", NOT_FOUND),
    Rest("an empty segment", "GET", "/v1alpha2//regions", "", NOT_FOUND),
    Rest("a verb that is none", "POST", "/v1alpha2/regions:paint", "", NOT_FOUND),
    Rest("a write", "POST", "/v1alpha2/regions", "{}", StatusCode.UNIMPLEMENTED),
    Rest("a removal", "DELETE", "/v1alpha2/regions/before", "", StatusCode.UNIMPLEMENTED),
    Rest("a body that is no JSON", "POST", "/v1alpha2/regions:watch", "{", INVALID, "body"),
    Rest("a body that is an array", "POST", "/v1alpha2/regions:watch", "[]", INVALID, "body"),
    Rest("a body nested 10,000 deep", "POST", "/v1alpha2/regions:watch", "[" * 10_000, INVALID, "body"),
    Rest("a body with an unknown field", "POST", "/v1alpha2/regions:watch", {"nothing": 1}, INVALID, "nothing"),
    Rest("a body with a size that is no number", "POST", "/v1alpha2/regions:watch", {"pageSize": "x"}, INVALID, "page"),
    Rest("a time that is none", "POST", "/v1alpha2/regions:watch?type=STATELESS&starting_time=now", "", INVALID, "starting_time"),
    Rest("a token of another kind", "POST", "/v1alpha2/regions:watch?type=STATELESS&resume_token=r.e.C.eA==:eA==", "", INVALID, "resume_token"),
    Rest("an event id that is none", "POST", "/v1alpha2/regions:watch?type=STATELESS", "", INVALID, "resume_token",
         headers={"Accept": "text/event-stream", "Last-Event-ID": "x"}),
    Rest("a watch of what is not there", "POST", "/v1alpha2/regions/none:watch", "", NOT_FOUND),
    Rest("no token", "POST", "/v1alpha2/regions:watch", "", UNAUTHENTICATED, headers={"Authorization": ""}),
)  # fmt: skip
