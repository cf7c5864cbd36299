# ruff: noqa: E501 - a table, one case a line
"""Malformed requests: what is sent, the code that answers, and the field that is named.

Data only; test_bad_input.py sends them. A gRPC case gives a method and a message or raw bytes, a
REST case a verb, a target as it goes over the wire, a body and headers. `field` is "" where nothing
of the request is at fault (an unknown id, no token).
"""

from __future__ import annotations

import base64
import gzip
import json
from dataclasses import dataclass
from dataclasses import field as has
from typing import Any
from urllib.parse import quote

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from grpc import StatusCode

from shared.pb.backend.api.v1beta1 import experiment_pb2 as v1
from shared.pb.backend.api.v2beta1 import experiment_pb2 as v2
from shared.pb.roundhouse.admin.v1 import access_pb2 as access
from shared.pb.roundhouse.admin.v1 import admin_pb2 as admin

INVALID = StatusCode.INVALID_ARGUMENT
NOT_FOUND = StatusCode.NOT_FOUND
UNAUTHENTICATED = StatusCode.UNAUTHENTICATED
_V1 = "/api.ExperimentService/"
_V2 = "/kubeflow.pipelines.backend.api.v2beta1.ExperimentService/"
_ADMIN = "/roundhouse.admin.v1.AdminService/"
_ACCESS = "/roundhouse.admin.v1.AccessService/"
_REST_V1 = "/apis/v1beta1/experiments"
_REST_V2 = "/apis/v2beta1/experiments"


@dataclass(frozen=True)
class Grpc:
    name: str
    method: str
    request: Message | bytes
    code: StatusCode
    field: str = ""
    metadata: dict[str, str] = has(default_factory=dict)


@dataclass(frozen=True)
class Rest:
    name: str
    verb: str
    target: str
    body: bytes | str | dict[str, Any]
    code: StatusCode
    field: str = ""
    headers: dict[str, str] = has(default_factory=dict)

    @property
    def data(self) -> bytes:
        if isinstance(self.body, dict):
            return json.dumps(self.body).encode()
        return self.body.encode() if isinstance(self.body, str) else self.body


def token(payload: object, *, version: object = 1) -> str:
    """A page or resume token as the server would write it, holding whatever."""
    if isinstance(payload, dict):
        payload = {"v": version, **payload}
    return base64.urlsafe_b64encode(json.dumps(payload).encode()).rstrip(b"=").decode()


def create(**fields: Any) -> v1.CreateExperimentRequest:
    return v1.CreateExperimentRequest(experiment=v1.Experiment(**fields))


def listing(**fields: Any) -> v1.ListExperimentsRequest:
    return v1.ListExperimentsRequest(**fields)


def predicate(**fields: Any) -> str:
    return json.dumps({"predicates": [fields]})


def apply(manifest: str) -> admin.ApplyRequest:
    return admin.ApplyRequest(manifest=manifest)


_LONG = "x" * 300_000
_CURSOR = {"k": [1], "n": "x", "b": False, "i": False}
_PAGE = {"a": "v1beta1", "s": "created_at", "d": False, "f": "", **_CURSOR}
_BOMB = "experiments:\n- &a {display_name: x}\n- *a\n"
_LAUGHS = "a: &a [x, x]\n" + "".join(
    f"{b}: &{b} [*{a}, *{a}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
_NESTED = '{"predicates": ' + "[" * 2000 + "]" * 2000 + "}"
_FILTER_NESTED = (
    '{"predicates":[{"op":1,"key":"name","string_values":' + '{"values":' * 200 + "1" + "}" * 200 + "}]}"
)

GRPC = (
    # -- bytes
    Grpc("bytes that are no message", f"{_V1}CreateExperiment", b"\xff\xff\xff", INVALID, "request"),
    Grpc("a truncated message", f"{_V1}GetExperiment", b"\x0a\x24abc", INVALID, "request"),
    Grpc("a string of invalid UTF-8", f"{_V1}GetExperiment", b"\x0a\x02\xff\xfe", INVALID, "request"),
    Grpc("a lone surrogate as bytes", f"{_V1}GetExperiment", b"\x0a\x03\xed\xa0\x80", INVALID, "request"),
    Grpc("a group that does not end", f"{_V2}GetExperiment", b"\x0b\x0b\x0b", INVALID, "request"),
    Grpc("field number 0", f"{_V2}ListExperiments", b"\x00\x00", INVALID, "request"),
    Grpc("nested beyond the parser's limit", f"{_V1}CreateExperiment", b"\x0b" * 200 + b"\x0c" * 200, INVALID, "request"),
    Grpc("random bytes to a watch", f"{_ADMIN}Watch", b"\x07garbage", INVALID, "request"),
    Grpc("more than the largest message", f"{_V1}CreateExperiment", b"\x0a" * (5 << 20), StatusCode.RESOURCE_EXHAUSTED),
    Grpc("another message's bytes", f"{_V1}CreateExperiment", listing(page_token="x"), INVALID, "request"),
    # -- create
    Grpc("no experiment", f"{_V1}CreateExperiment", b"", INVALID, "experiment"),
    Grpc("no experiment, v2beta1", f"{_V2}CreateExperiment", b"", INVALID, "experiment"),
    Grpc("an empty name", f"{_V1}CreateExperimentV1", create(), INVALID, "experiment.name"),
    Grpc("a name of 129 characters", f"{_V1}CreateExperiment", create(name="n" * 129), INVALID, "experiment.name"),
    Grpc("a name of 300,000 characters", f"{_V1}CreateExperiment", create(name=_LONG), INVALID, "experiment.name"),
    Grpc("a description of 65,536 characters", f"{_V1}CreateExperiment", create(name="a", description="d" * 65_536),
         INVALID, "experiment.description"),
    Grpc("a reference in single-user mode", f"{_V1}CreateExperiment",
         create(name="a", resource_references=[{"key": {"type": 5, "id": "ns"}}]), INVALID, "experiment.resource_references"),
    # -- ids
    *(
        Grpc(f"{verb} without an id", f"{_V1}{verb}Experiment", b"", INVALID, "id")
        for verb in ("Get", "Delete", "Archive", "Unarchive")
    ),
    Grpc("an empty experiment_id", f"{_V2}GetExperiment", b"", INVALID, "experiment_id"),
    Grpc("an id with NUL", f"{_V1}GetExperiment", v1.GetExperimentRequest(id="a\0b"), NOT_FOUND),
    Grpc("an id of 300,000 characters", f"{_V1}GetExperiment", v1.GetExperimentRequest(id=_LONG), NOT_FOUND),
    Grpc("an id beyond the basic plane", f"{_V2}DeleteExperiment", v2.DeleteExperimentRequest(experiment_id="\U0010ffff"), NOT_FOUND),
    Grpc("a path as an id", f"{_V1}ArchiveExperiment", v1.ArchiveExperimentRequest(id="../../etc/passwd"), NOT_FOUND),
    # -- lists
    Grpc("a negative page_size", f"{_V1}ListExperiment", listing(page_size=-1), INVALID, "page_size"),
    Grpc("the least page_size", f"{_V2}ListExperiments", v2.ListExperimentsRequest(page_size=-(2**31)), INVALID, "page_size"),
    Grpc("an unknown sort field", f"{_V1}ListExperiment", listing(sort_by="size"), INVALID, "sort_by"),
    Grpc("a sort of 300,000 characters", f"{_V1}ListExperiment", listing(sort_by=_LONG), INVALID, "sort_by"),
    Grpc("SQL as a sort", f"{_V1}ListExperiment", listing(sort_by="name;DROP TABLE versions"), INVALID, "sort_by"),
    Grpc("a sort with NUL", f"{_V1}ListExperiment", listing(sort_by="name\0"), INVALID, "sort_by"),
    Grpc("an unknown resource type", f"{_V1}ListExperiment", listing(resource_reference_key={"type": 99}), INVALID,
         "resource_reference_key.type"),
    Grpc("a namespace in single-user mode", f"{_V1}ListExperiment", listing(resource_reference_key={"type": 5, "id": "x"}),
         INVALID, "resource_reference_key.id"),
    # -- filters
    Grpc("a filter that is no JSON", f"{_V1}ListExperiment", listing(filter="name = 'x'"), INVALID, "filter"),
    Grpc("a filter that is an array", f"{_V1}ListExperiment", listing(filter="[]"), INVALID, "filter"),
    Grpc("a filter nested 2,000 deep", f"{_V1}ListExperiment", listing(filter=_NESTED), INVALID, "filter"),
    Grpc("a value nested 200 deep", f"{_V1}ListExperiment", listing(filter=_FILTER_NESTED), INVALID, "filter"),
    Grpc("a filter of 300,000 characters", f"{_V1}ListExperiment", listing(filter=_LONG), INVALID, "filter"),
    Grpc("a lone surrogate escape in a filter", f"{_V1}ListExperiment",
         listing(filter='{"predicates":[{"op":1,"key":"name","string_value":"\\ud800"}]}'), INVALID, "filter"),
    Grpc("NaN in a filter", f"{_V1}ListExperiment", listing(filter='{"predicates":[{"int_value":NaN}]}'), INVALID, "filter"),
    Grpc("a huge number in a filter", f"{_V1}ListExperiment",
         listing(filter='{"predicates":[{"op":1,"key":"created_at","long_value":1' + "0" * 5000 + "}]}"), INVALID, "filter"),
    Grpc("1e999 in a filter", f"{_V1}ListExperiment",
         listing(filter='{"predicates":[{"op":1,"key":"created_at","int_value":1e999}]}'), INVALID, "filter"),
    Grpc("a huge operation", f"{_V1}ListExperiment",
         listing(filter='{"predicates":[{"op":99999999999,"key":"name"}]}'), INVALID, "filter"),
    Grpc("an unknown key of 60,000 characters", f"{_V1}ListExperiment",
         listing(filter=predicate(op=1, key="k" * 60_000, string_value="x")), INVALID, "filter.predicates[0].key"),
    Grpc("an unused operation", f"{_V1}ListExperiment", listing(filter=predicate(op=4, key="name", string_value="x")),
         INVALID, "filter.predicates[0].op"),
    Grpc("v1beta1's spelling in v2beta1", f"{_V2}ListExperiments",
         v2.ListExperimentsRequest(filter=predicate(op=1, key="name", string_value="x")), INVALID, "filter"),
    Grpc("year 10000 in a filter", f"{_V1}ListExperiment",
         listing(filter=predicate(op=1, key="created_at", timestamp_value="10000-01-01T00:00:00Z")), INVALID, "filter"),
    Grpc("a date without a zone", f"{_V1}ListExperiment",
         listing(filter=predicate(op=1, key="created_at", timestamp_value="2020-01-01T00:00:00")), INVALID, "filter"),
    # -- page tokens
    Grpc("a token that is no base64", f"{_V1}ListExperiment", listing(page_token="!!!"), INVALID, "page_token"),
    Grpc("a token of standard base64", f"{_V1}ListExperiment", listing(page_token="+/+/"), INVALID, "page_token"),
    Grpc("a truncated token", f"{_V1}ListExperiment", listing(page_token=token(_PAGE)[:-5]), INVALID, "page_token"),
    Grpc("a token of 300,000 characters", f"{_V1}ListExperiment", listing(page_token="A" * 300_000), INVALID, "page_token"),
    Grpc("a token of another version", f"{_V1}ListExperiment", listing(page_token=token(_PAGE, version=2)), INVALID, "page_token"),
    Grpc("a token of version true", f"{_V1}ListExperiment", listing(page_token=token(_PAGE, version=True)), INVALID, "page_token"),
    Grpc("a token that is an array", f"{_V1}ListExperiment", listing(page_token=token([1, 2])), INVALID, "page_token"),
    Grpc("a token of nested arrays", f"{_V1}ListExperiment",
         listing(page_token=base64.urlsafe_b64encode(b"[" * 9000).decode()), INVALID, "page_token"),
    Grpc("a token with a text where a number was", f"{_V1}ListExperiment", listing(page_token=token({**_PAGE, "k": ["1"]})),
         INVALID, "page_token"),
    Grpc("a token with a number too large", f"{_V1}ListExperiment", listing(page_token=token({**_PAGE, "k": [2**63]})),
         INVALID, "page_token"),
    Grpc("a token with a key too much", f"{_V1}ListExperiment", listing(page_token=token({**_PAGE, "z": 1})), INVALID, "page_token"),
    Grpc("a token with a made-up sort", f"{_V1}ListExperiment", listing(page_token=token({**_PAGE, "s": "body"})), INVALID, "page_token"),
    Grpc("a token with a broken filter", f"{_V1}ListExperiment", listing(page_token=token({**_PAGE, "f": "{"})), INVALID, "page_token"),
    Grpc("a token of v1beta1 in v2beta1", f"{_V2}ListExperiments", v2.ListExperimentsRequest(page_token=token(_PAGE)),
         INVALID, "page_token"),
    Grpc("a token with another sort", f"{_V1}ListExperiment", listing(page_token=token(_PAGE), sort_by="name"), INVALID, "sort_by"),
    # -- headers
    Grpc("no token", f"{_V1}ListExperiment", b"", UNAUTHENTICATED, metadata={"authorization": ""}),
    Grpc("a token without its scheme", f"{_V1}ListExperiment", b"", UNAUTHENTICATED, metadata={"authorization": "abc"}),
    Grpc("a token that is no JWT", f"{_V1}ListExperiment", b"", UNAUTHENTICATED, metadata={"authorization": "Bearer abc"}),
    Grpc("a JWT without a signature", f"{_V1}ListExperiment", b"", UNAUTHENTICATED,
         metadata={"authorization": "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZG1pbiJ9."}),
    Grpc("a token of 5,000 characters", f"{_V1}ListExperiment", b"", UNAUTHENTICATED,
         metadata={"authorization": "Bearer " + "x" * 5000}),
    # -- admin API
    Grpc("a kind that is none", f"{_ADMIN}Get", admin.GetRequest(kind="pod", name="x"), INVALID, "kind"),
    Grpc("no kind", f"{_ADMIN}List", b"", INVALID, "kind"),
    Grpc("a kind of 300,000 characters", f"{_ADMIN}List", admin.ListRequest(kind=_LONG), INVALID, "kind"),
    Grpc("an internal kind", f"{_ADMIN}Get", admin.GetRequest(kind="claim", name="x"), INVALID, "kind"),
    Grpc("no name", f"{_ADMIN}Get", admin.GetRequest(kind="experiment"), INVALID, "name"),
    Grpc("a negative page_size, admin", f"{_ADMIN}List", admin.ListRequest(kind="experiment", page_size=-1), INVALID, "page_size"),
    Grpc("an unknown order", f"{_ADMIN}List", admin.ListRequest(kind="experiment", order_by="size"), INVALID, "order_by"),
    Grpc("a broken filter, admin", f"{_ADMIN}List", admin.ListRequest(kind="experiment", filter="{"), INVALID, "filter"),
    Grpc("a made-up token, admin", f"{_ADMIN}List",
         admin.ListRequest(kind="experiment", page_token=token({**_CURSOR, "q": "x"})), INVALID, "page_token"),
    Grpc("a token with a list as its query", f"{_ADMIN}List",
         admin.ListRequest(kind="experiment", page_token=token({**_CURSOR, "q": [1]})), INVALID, "page_token"),
    Grpc("a manifest that is no YAML", f"{_ADMIN}Apply", apply("{"), INVALID, "manifest"),
    Grpc("an empty manifest", f"{_ADMIN}Apply", apply(""), INVALID, "manifest"),
    Grpc("a manifest that is a list", f"{_ADMIN}Apply", apply("- a\n"), INVALID, "manifest"),
    Grpc("a manifest with an alias", f"{_ADMIN}Apply", apply(_BOMB), INVALID, "manifest"),
    Grpc("a manifest of a billion laughs", f"{_ADMIN}Apply", apply(_LAUGHS), INVALID, "manifest"),
    Grpc("a manifest of nested lists", f"{_ADMIN}Apply", apply("experiments: " + "[" * 5000 + "]" * 5000), INVALID, "manifest"),
    Grpc("a manifest with a Python object", f"{_ADMIN}Apply", apply("experiments: !!python/object/apply:os.system [x]"),
         INVALID, "manifest"),
    Grpc("a manifest with NUL", f"{_ADMIN}Apply", apply("experiments: [\0]"), INVALID, "manifest"),
    Grpc("two documents", f"{_ADMIN}Apply", apply("experiments: []\n---\nexperiments: []\n"), INVALID, "manifest"),
    Grpc("a merge key", f"{_ADMIN}Apply", apply("experiments: [{<<: {display_name: x}, <<: 5}]"), INVALID, "manifest"),
    Grpc("a list of another service", f"{_ADMIN}Apply", apply("regions: []"), INVALID, "regions"),
    Grpc("a number as a list's name", f"{_ADMIN}Apply", apply("5: []"), INVALID, "5"),
    Grpc("a mapping instead of a list", f"{_ADMIN}Apply", apply("experiments: {}"), INVALID, "experiments"),
    Grpc("an entry that is no mapping", f"{_ADMIN}Apply", apply("experiments: [5]"), INVALID, "experiments[0]"),
    Grpc("an unknown field", f"{_ADMIN}Apply", apply("experiments: [{size: 5}]"), INVALID, "experiments[0]"),
    Grpc("a wrong type", f"{_ADMIN}Apply", apply("experiments: [{display_name: [a]}]"), INVALID, "experiments[0]"),
    Grpc("a number as a field's name", f"{_ADMIN}Apply", apply("experiments: [{5: a}]"), INVALID, "experiments[0]"),
    Grpc("a binary value", f"{_ADMIN}Apply", apply("experiments: [{display_name: !!binary aGk=}]"), INVALID, "*"),
    Grpc("an infinite number", f"{_ADMIN}Apply", apply("experiments: [{storage_state: .inf}]"), INVALID, "experiments[0]"),
    Grpc("a set", f"{_ADMIN}Apply", apply("experiments: !!set {a, b}"), INVALID, "*"),
    Grpc("an entry without a name", f"{_ADMIN}Apply", apply("experiments: [{}]"), INVALID, "experiments[0].display_name"),
    Grpc("the same name twice", f"{_ADMIN}Apply", apply("experiments: [{display_name: a}, {display_name: a}]"), INVALID, "*"),
    Grpc("an unknown state", f"{_ADMIN}Apply", apply("experiments: [{display_name: a, storage_state: 9}]"), INVALID,
         "experiments[0].storage_state"),
    Grpc("an id that cannot be one", f"{_ADMIN}Apply", apply("experiments: [{display_name: a, experiment_id: a/b}]"), INVALID,
         "experiments[0].experiment_id"),
    Grpc("half an emoji", f"{_ADMIN}Apply", apply('experiments: [{display_name: "\\ud83d"}]'), INVALID, "*"),
    Grpc("deleting a kind that is none", f"{_ADMIN}Delete", admin.DeleteRequest(kind="x", name="y"), INVALID, "kind"),
    Grpc("deleting at a negative revision", f"{_ADMIN}Delete", admin.DeleteRequest(kind="experiment", name="y", revision=-1),
         INVALID, "revision"),
    Grpc("deleting what is not there", f"{_ADMIN}Delete", admin.DeleteRequest(kind="experiment", name="y"), NOT_FOUND),
    Grpc("exporting a kind that is none", f"{_ADMIN}Export", admin.ExportRequest(kinds=["x"]), INVALID, "kinds"),
    Grpc("a history without a name", f"{_ADMIN}History", admin.HistoryRequest(kind="experiment"), INVALID, "name"),
    Grpc("a history token that was made up", f"{_ADMIN}History",
         admin.HistoryRequest(kind="experiment", name="x", page_token=token({"r": "1", "q": "x"})), INVALID, "page_token"),
    Grpc("an audit of a store that is none", f"{_ADMIN}ListAudit", admin.ListAuditRequest(store="x"), INVALID, "store"),
    Grpc("an audit with a huge token", f"{_ADMIN}ListAudit", admin.ListAuditRequest(page_token="x" * 100_000), INVALID, "page_token"),
    Grpc("a watch of a kind that is none", f"{_ADMIN}Watch", admin.WatchRequest(kind="x"), INVALID, "kind"),
    Grpc("a watch with a broken filter", f"{_ADMIN}Watch", admin.WatchRequest(kind="experiment", filter="{"), INVALID, "filter"),
    Grpc("a watch with a broken token", f"{_ADMIN}Watch", admin.WatchRequest(kind="experiment", resume_token="x"), INVALID, "resume_token"),
    Grpc("a resume token with a text as revision", f"{_ADMIN}Watch",
         admin.WatchRequest(kind="experiment", resume_token=token({"e": "x", "r": "1", "f": "x"})), INVALID, "resume_token"),
    Grpc("a resume token of another query", f"{_ADMIN}Watch",
         admin.WatchRequest(kind="experiment", resume_token=token({"e": "x", "r": 1, "f": "x"})), INVALID, "resume_token"),
    Grpc("a token and from_now", f"{_ADMIN}Watch",
         admin.WatchRequest(kind="experiment", resume_token=token({"e": "x", "r": 1, "f": "x"}), from_now=True), INVALID, "from_now"),
    # -- access API
    Grpc("a token for nobody", f"{_ACCESS}CreateToken", access.CreateTokenRequest(role="viewer"), INVALID, "subject"),
    Grpc("a role that is none", f"{_ACCESS}CreateToken", access.CreateTokenRequest(subject="a", role="king"), INVALID, "role"),
    Grpc("a negative time to live", f"{_ACCESS}CreateToken",
         access.CreateTokenRequest(subject="a", role="viewer", ttl=Duration(seconds=-5)), INVALID, "ttl"),
    Grpc("a time to live of ages", f"{_ACCESS}CreateToken",
         access.CreateTokenRequest(subject="a", role="viewer", ttl=Duration(seconds=2**62)), INVALID, "ttl"),
    Grpc("a subject with a line break", f"{_ACCESS}CreateToken", access.CreateTokenRequest(subject="a\nb", role="viewer"),
         INVALID, "subject"),
    Grpc("a user with a huge name", f"{_ACCESS}PutUser", access.PutUserRequest(user={"subject": _LONG, "role": "viewer"}),
         INVALID, "user.subject"),
    Grpc("no user", f"{_ACCESS}PutUser", b"", INVALID, "user.subject"),
    Grpc("a namespace that is empty", f"{_ACCESS}PutUser",
         access.PutUserRequest(user={"subject": "a", "role": "viewer", "namespaces": [""]}), INVALID, "user.namespaces[0]"),
    Grpc("a made-up token of tokens", f"{_ACCESS}ListTokens", access.ListTokensRequest(page_token="x"), INVALID, "page_token"),
    Grpc("a made-up token of users", f"{_ACCESS}ListUsers",
         access.ListUsersRequest(page_token=token({"q": "x", "t": 2**70, "n": 5})), INVALID, "page_token"),
    Grpc("revoking nothing", f"{_ACCESS}RevokeToken", b"", INVALID, "id"),
    Grpc("revoking what is not there", f"{_ACCESS}RevokeToken", access.RevokeTokenRequest(id="x"), NOT_FOUND),
    Grpc("an empty sign-in code", f"{_ACCESS}RedeemSignInCode", b"", INVALID, "code"),
    Grpc("a wrong sign-in code", f"{_ACCESS}RedeemSignInCode", access.RedeemSignInCodeRequest(code="x"), UNAUTHENTICATED),
)  # fmt: skip

REST = (
    # -- bodies
    Rest("a body that is no JSON", "POST", _REST_V1, "{", INVALID, "body"),
    Rest("a body of invalid UTF-8", "POST", _REST_V1, b'{"name":"\xff"}', INVALID, "body"),
    Rest("a lone surrogate escape", "POST", _REST_V1, '{"name":"\\udc00"}', INVALID, "body"),
    Rest("a body that is an array", "POST", _REST_V1, "[]", INVALID, "body"),
    Rest("a body that is null", "POST", _REST_V2, "null", INVALID, "body"),
    Rest("a body nested 5,000 deep", "POST", _REST_V1, '{"name":' + "[" * 5000 + "]" * 5000 + "}", INVALID, "body"),
    Rest("a body nested 500 deep", "POST", _REST_V1, '{"resource_references":' + '[{"key":' * 500 + "1" + "}]" * 500 + "}",
         INVALID, "resource_references"),
    Rest("NaN in a body", "POST", _REST_V1, '{"name": NaN}', INVALID, "body"),
    Rest("a huge number in a body", "POST", _REST_V1, '{"name": "a", "storage_state": 1' + "0" * 400 + "}", INVALID, ""),
    Rest("a body of 2 MB", "POST", _REST_V1, {"name": "a", "description": "d" * (2 << 20)}, INVALID, "body"),
    Rest("a gzip body that is none", "POST", _REST_V1, '{"name":"a"}', INVALID, "body", {"Content-Encoding": "gzip"}),
    Rest("a truncated gzip body", "POST", _REST_V1, gzip.compress(b'{"name":"a"}')[:-4], INVALID, "body", {"Content-Encoding": "gzip"}),
    Rest("bytes after a gzip body", "POST", _REST_V1, gzip.compress(b'{"name":"a"}') + b"x", INVALID, "body",
         {"Content-Encoding": "gzip"}),
    Rest("a body that grows to 100 MB", "POST", _REST_V1, gzip.compress(b" " * 100_000_000), INVALID, "body",
         {"Content-Encoding": "gzip"}),
    Rest("a coding that is none", "POST", _REST_V1, '{"name":"a"}', INVALID, "body", {"Content-Encoding": "zip"}),
    Rest("an empty body", "POST", _REST_V1, "", INVALID, "name"),
    Rest("a number as a name", "POST", _REST_V1, '{"name": 5}', INVALID, "name"),
    Rest("an unknown state", "POST", _REST_V1, '{"name":"a","storage_state":"GONE"}', INVALID, "storage_state"),
    Rest("a time that is none", "POST", _REST_V2, '{"display_name":"a","created_at":"now"}', INVALID, "created_at"),
    Rest("year 0", "POST", _REST_V2, '{"display_name":"a","created_at":"0000-01-01T00:00:00Z"}', INVALID, "created_at"),
    Rest("an unknown key of a reference", "POST", _REST_V1, '{"name":"a","resource_references":[{"x":1}]}', INVALID,
         "resource_references[0]"),
    # -- paths
    Rest("an id that cannot be decoded", "GET", f"{_REST_V1}/%zz", "", INVALID, "id"),
    Rest("an id of invalid UTF-8", "GET", f"{_REST_V2}/%ff", "", INVALID, "experiment_id"),
    Rest("an id with NUL", "GET", f"{_REST_V1}/%00", "", NOT_FOUND),
    Rest("an id of 10,000 characters", "GET", f"{_REST_V1}/{'x' * 10_000}", "", NOT_FOUND),
    Rest("an encoded slash", "DELETE", f"{_REST_V1}/a%2f..%2fb", "", NOT_FOUND),
    Rest("an empty segment", "GET", f"{_REST_V1}/", "", NOT_FOUND),
    Rest("an unknown path", "GET", "/apis/v1beta1/runs", "", NOT_FOUND),
    Rest("an unknown action", "POST", f"{_REST_V1}/x:explode", "", NOT_FOUND),
    Rest("a wrong verb", "PATCH", _REST_V1, "{}", StatusCode.UNIMPLEMENTED),
    # -- queries
    Rest("page_size=abc", "GET", f"{_REST_V1}?page_size=abc", "", INVALID, "page_size"),
    Rest("page_size beyond 32 bits", "GET", f"{_REST_V1}?page_size=2147483648", "", INVALID, "page_size"),
    Rest("page_size with 5,000 digits", "GET", f"{_REST_V1}?page_size={'1' * 5000}", "", INVALID, "page_size"),
    Rest("page_size twice", "GET", f"{_REST_V1}?page_size=1&page_size=2", "", INVALID, "page_size"),
    Rest("a negative page_size", "GET", f"{_REST_V2}?pageSize=-5", "", INVALID, "page_size"),
    Rest("a query that cannot be decoded", "GET", f"{_REST_V1}?sort_by=%f", "", INVALID, "sort_by"),
    Rest("a query of invalid UTF-8", "GET", f"{_REST_V1}?filter=%ff%fe", "", INVALID, "filter"),
    Rest("a query name of invalid UTF-8", "GET", f"{_REST_V1}?%ff=1", "", INVALID, "query"),
    Rest("2,000 parameters", "GET", f"{_REST_V1}?{'&'.join(['a=1'] * 2000)}", "", INVALID, "query"),
    Rest("an unknown resource type", "GET", f"{_REST_V1}?resource_reference_key.type=NOPE", "", INVALID,
         "resource_reference_key.type"),
    Rest("a message as a parameter", "GET", f"{_REST_V1}?resource_reference_key=x", "", INVALID, "resource_reference_key"),
    Rest("a filter encoded three times", "GET",
         f"{_REST_V1}?filter={quote(quote(quote(predicate(op=1, key='name', string_value='x'))))}", "", INVALID, "filter"),
    Rest("a filter that is no JSON", "GET", f"{_REST_V2}?filter=name%3Dx", "", INVALID, "filter"),
    Rest("a token that is none", "GET", f"{_REST_V2}?page_token=abc", "", INVALID, "page_token"),
    Rest("a sort that is none", "GET", f"{_REST_V2}?sort_by=name%20up", "", INVALID, "sort_by"),
    # -- headers
    Rest("no token", "GET", _REST_V1, "", UNAUTHENTICATED, headers={"Authorization": ""}),
    Rest("a scheme that is none", "GET", _REST_V1, "", UNAUTHENTICATED, headers={"Authorization": "Digest x"}),
    Rest("a token beyond ASCII", "GET", _REST_V1, "", UNAUTHENTICATED, headers={"Authorization": "Bearer \u00e9\u20ac"}),
    # -- admin and access APIs
    Rest("an unknown kind", "GET", "/admin/v1/pod:list", "", INVALID, "kind"),
    Rest("an unknown parameter", "GET", "/admin/v1/experiment:list?size=5", "", INVALID, "size"),
    Rest("an unknown member of a body", "POST", "/admin/v1/apply", '{"manifests": ""}', INVALID, "manifests"),
    Rest("a manifest that is a number", "POST", "/admin/v1/apply", '{"manifest": 5}', INVALID, "manifest"),
    Rest("a flag that is none", "POST", "/admin/v1/apply", '{"manifest": "a: []", "prune": "maybe"}', INVALID, "prune"),
    Rest("a watch token that is none", "GET", "/admin/v1/experiment:watch?resume_token=x", "", INVALID, "resume_token"),
    Rest("an event id that is none", "GET", "/admin/v1/experiment:watch", "", INVALID, "resume_token",
         {"Accept": "text/event-stream", "Last-Event-ID": "x"}),
    Rest("an export of nothing", "GET", "/admin/v1/export?kinds=pod", "", INVALID, "kinds"),
    Rest("an odd revision", "DELETE", "/admin/v1/experiment?name=x&revision=x", "", INVALID, "revision"),
    Rest("a time to live that is none", "POST", "/admin/v1/access/tokens", {"subject": "a", "role": "viewer", "ttl": "1 day"},
         INVALID, "ttl"),
    Rest("a role that is none", "PUT", "/admin/v1/access/users/a", {"role": "king"}, INVALID, "user.role"),
    Rest("a subject of blanks", "PUT", "/admin/v1/access/users/%20", {"role": "viewer"}, INVALID, "user.subject"),
)  # fmt: skip
