"""Path, query and body to a request message: who wins, what is refused, how it is said."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, field_mask_pb2
from google.protobuf.message_factory import GetMessageClass

from shared.errors import InvalidArgument
from shared.pb.backend.api.v1beta1 import experiment_pb2
from shared.pb.roundhouse.admin.v1 import access_pb2, admin_pb2
from shared.rest.path_template import Found, Router
from shared.rest.style import GOOGLE, Style
from shared.rest.transcode import Transcoder
from shared.rpc.method import HttpRule
from tests.unit.rest_messages import AllTypes

LENIENT = Style(unknown_query="ignore", unknown_body="ignore_top", unbound_body="ignore")
F = descriptor_pb2.FieldDescriptorProto


def _patch_request() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="test/patch.proto", package="test.rest", syntax="proto3")
    file.dependency.extend([field_mask_pb2.DESCRIPTOR.name, "test/rest.proto"])
    message = file.message_type.add(name="PatchRequest")
    for number, (name, kind) in enumerate(
        [("item", ".test.rest.AllTypes"), ("update_mask", ".google.protobuf.FieldMask")], 1
    ):
        message.field.add(
            name=name, number=number, type=F.TYPE_MESSAGE, type_name=kind, label=F.LABEL_OPTIONAL
        )
    descriptor_pool.Default().AddSerializedFile(file.SerializeToString())
    return GetMessageClass(descriptor_pool.Default().FindMessageTypeByName("test.rest.PatchRequest"))


PatchRequest = _patch_request()


def read(
    kind: Any,
    rule: HttpRule,
    path: str = "/",
    query: str = "",
    body: bytes = b"",
    *,
    style: Style = GOOGLE,
    resume_token: str = "",
) -> Any:
    router: Router[None] = Router()
    transcoder = Transcoder(kind, rule, router.add(rule.verb, rule.path, None), style)
    found = router.match(rule.verb, path)
    assert isinstance(found, Found)
    return transcoder.read(found, query, body, resume_token)


LIST = HttpRule("GET", "/x")
POST = HttpRule("POST", "/x", "*")
CREATE = HttpRule("POST", "/x", "experiment")


def query(text: str, kind: Any = AllTypes, style: Style = GOOGLE) -> Any:
    return read(kind, LIST, "/x", text, style=style)


def refused(*args: Any, **kwargs: Any) -> list[tuple[str, str]]:
    with pytest.raises(InvalidArgument) as caught:
        read(*args, **kwargs)
    assert caught.value.message
    return [(violation.field, violation.description) for violation in caught.value.violations]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("many_string=a&manyString=b", AllTypes(many_string=["a", "b"])),
        ("int32=-5&uint64=18446744073709551615", AllTypes(int32=-5, uint64=(1 << 64) - 1)),
        ("enum=BAD", AllTypes(enum=2)),
        ("enum=2&many_enum=GOOD&many_enum=2", AllTypes(enum=2, many_enum=[1, 2])),
        ("bool=true&many_bool=false&many_bool=1", AllTypes(bool=True, many_bool=[False, True])),
        ("string=a+b%2Bc%20%E2%98%83", AllTypes(string="a b+c ☃")),
        ("string=a=b", AllTypes(string="a=b")),
        ("bytes=-_8", AllTypes(bytes=b"\xfb\xff")),
        ("time=2024-03-01T12:00:00Z", AllTypes(time={"seconds": 1709294400})),
        ("span=1.5s", AllTypes(span={"seconds": 1, "nanos": 500_000_000})),
        ("mask=createdAt,a.b_c", AllTypes(mask={"paths": ["created_at", "a.b_c"]})),
        ("wrapped=0&wrappedBool=true", AllTypes(wrapped={"value": 0}, wrapped_bool={"value": True})),
        ("child.child.oneText=x", AllTypes(child={"child": {"one_text": "x"}})),
        ("maybe=0", AllTypes(maybe=0)),
        ("string=&int32=&child.int32=&time=&many_string=", AllTypes()),
        ("&&string=x&", AllTypes(string="x")),
        ("", AllTypes()),
    ],
)
def test_query_parameters(text: str, expected: Any) -> None:
    assert query(text) == expected


@pytest.mark.parametrize(
    ("text", "field", "reason"),
    [
        ("int32=abc", "int32", "must be an integer, not 'abc'"),
        ("int32=2147483648", "int32", "not between"),
        ("int32=1&int32=2", "int32", "too many values"),
        ("string=a&string=b", "string", "too many values"),
        ("bool=yes", "bool", "must be true or false"),
        ("enum=WORST", "enum", "not one of"),
        ("many_enum=GOOD&many_enum=x", "many_enum", "not one of"),
        ("time=yesterday", "time", "RFC 3339"),
        ("wrapped=x", "wrapped", "must be an integer"),
        ("child=x", "child", "cannot be given as a query parameter"),
        ("many_child=x", "many_child", "cannot be given as a query parameter"),
        ("labels=x", "labels", "cannot be given as a query parameter"),
        ("any=x", "any", "cannot be given as a query parameter"),
        ("nope=1", "nope", "not a parameter"),
        ("string.x=1", "string.x", "not a parameter"),
        ("many_child.int32=1", "many_child.int32", "not a parameter"),
        ("=1", "query", "not a parameter"),
        (".=1", ".", "not a parameter"),
        ("child..int32=1", "child..int32", "not a parameter"),
        ("string=100%", "string", "%25"),
        ("string=%FF", "string", "UTF-8"),
        ("%FF=1", "query", "parameter name"),
        ("one_text=x&one_number=1", "one_number", "cannot be set beside one_text"),
        ("child.one_text=x&child.oneChild.int32=1", "child.one_child.int32", "beside child.one_text"),
        ("&".join("many_string=x" for _ in range(1001)), "query", "more than 1000"),
    ],
)
def test_a_bad_query_parameter_is_named(text: str, field: str, reason: str) -> None:
    found = refused(AllTypes, LIST, "/x", text)
    assert [name for name, _ in found] == [field]
    assert reason in found[0][1]


def test_everything_wrong_is_told_at_once() -> None:
    rule = HttpRule("POST", "/x/{string}", "child")
    found = refused(AllTypes, rule, "/x/%FF", "int32=x&bool=x", b'{"int32":"x","nope":1}')
    assert {name for name, _ in found} == {"string", "int32", "bool", "child.int32", "child.nope"}


def test_unknown_parameters_are_ignored_where_the_style_says_so() -> None:
    assert query("nope=1&int32=5&nope.x=%41", style=LENIENT) == AllTypes(int32=5)
    # What cannot be decoded is wrong all the same.
    assert refused(AllTypes, LIST, "/x", "nope=%FF", style=LENIENT)[0][0] == "nope"


def test_fields_of_path_and_body_are_not_taken_from_the_query() -> None:
    rule = HttpRule("POST", "/x/{child.string}", "struct")
    text = "child.string=q&struct=q&int32=1"
    found = read(AllTypes, rule, "/x/p", text, b"{}", style=LENIENT)
    assert (found.child.string, found.int32) == ("p", 1)
    assert {name for name, _ in refused(AllTypes, rule, "/x/p", text, b"{}")} == {"child.string", "struct"}
    whole = refused(AllTypes, POST, "/x", "int32=1", b"{}")
    assert whole == [("int32", "is not a parameter of this method")]


def test_the_path_wins_over_the_body() -> None:
    rule = HttpRule("PUT", "/users/{user.subject}", "user")
    found = read(access_pb2.PutUserRequest, rule, "/users/me", "", b'{"subject":"you","role":"viewer"}')
    assert (found.user.subject, found.user.role) == ("me", "viewer")


def test_path_fields_of_other_types() -> None:
    rule = HttpRule("GET", "/x/{int32}/{enum}")
    assert read(AllTypes, rule, "/x/-7/BAD") == AllTypes(int32=-7, enum=2)
    assert {name for name, _ in refused(AllTypes, rule, "/x/a/b")} == {"int32", "enum"}


@pytest.mark.parametrize("body", [b"", b"  \r\n", b"{}"])
def test_an_empty_body_is_an_empty_message(body: bytes) -> None:
    found = read(experiment_pb2.CreateExperimentRequest, CREATE, "/x", "", body)
    assert found.HasField("experiment")
    assert read(AllTypes, POST, "/x", "", body) == AllTypes()


@pytest.mark.parametrize("body", [b"[]", b'"x"', b"5", b"true", b"null", b"{", b"{}{}", b'{"name":"\xff"}'])
def test_a_body_that_is_no_object_is_refused(body: bytes) -> None:
    assert [f for f, _ in refused(experiment_pb2.CreateExperimentRequest, CREATE, "/x", "", body)] == ["body"]
    assert [f for f, _ in refused(AllTypes, POST, "/x", "", body)] == ["body"]


def test_errors_in_the_body_carry_the_path_in_the_request() -> None:
    kind = experiment_pb2.CreateExperimentRequest
    body = b'{"name":5,"resource_references":[{"key":{"type":"SHIP"}}],"x":1}'
    names = [name for name, _ in refused(kind, CREATE, "/x", "", body)]
    assert names == ["experiment.name", "experiment.resource_references[0].key.type", "experiment.x"]
    names = [name for name, _ in refused(kind, CREATE, "/x", "", body, style=LENIENT)]
    assert names == ["experiment.name", "experiment.resource_references[0].key.type"]
    nested = b'{"resource_references":[{"x":1}]}'
    assert [n for n, _ in refused(kind, CREATE, "/x", "", nested, style=LENIENT)] == [
        "experiment.resource_references[0].x"
    ]


def test_a_body_that_no_rule_binds() -> None:
    body = b'{"int32":1,"many_string":["b"],"string":"b","mask":"b"}'
    found = read(AllTypes, HttpRule("POST", "/x/{string}"), "/x/p", "many_string=q&mask=q", body)
    assert found == AllTypes(int32=1, many_string=["q"], string="p", mask={"paths": ["q"]})
    rule = HttpRule("POST", "/x/{string}")
    assert read(AllTypes, rule, "/x/p", "", b"\xff not json", style=LENIENT) == AllTypes(string="p")


@pytest.mark.parametrize(
    ("query_text", "body", "paths"),
    [
        ("", b'{"int32":1,"string":"ignored","child":{"boolX":1,"int32":2},"time":null}', None),
        ("", b'{"int32":1,"string":"s","child":{"int32":2},"labels":{}}', ["int32", "child.int32", "labels"]),
        ("", b'{"child":{}}', ["child"]),
        ("", b'{"time":"2024-03-01T12:00:00Z","int32":null}', ["time", "int32"]),
        ("update_mask=string", b'{"int32":1}', ["string"]),
        ("updateMask=", b'{"int32":1}', ["int32"]),
    ],
)
def test_a_patch_without_a_mask_changes_what_its_body_has(
    query_text: str, body: bytes, paths: list[str] | None
) -> None:
    rule = HttpRule("PATCH", "/x/{item.string}", "item")
    if paths is None:
        assert refused(PatchRequest, rule, "/x/p", query_text, body) == [
            ("item.child.boolX", "is not a field that exists")
        ]
        return
    found = read(PatchRequest, rule, "/x/p", query_text, body)
    assert list(found.update_mask.paths) == paths
    assert found.item.string == "p"


def test_a_resume_token_from_the_header_wins() -> None:
    rule = HttpRule("GET", "/admin/v1/{kind}:watch")
    path = "/admin/v1/experiment:watch"
    found = read(admin_pb2.WatchRequest, rule, path, "resume_token=old", resume_token="new")
    assert found.resume_token == "new"


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        (HttpRule("GET", "/x/{nope}"), "no field 'nope'"),
        (HttpRule("GET", "/x/{child.nope}"), "no field 'child.nope'"),
        (HttpRule("GET", "/x/{string.x}"), "no field"),
        (HttpRule("GET", "/x/{child}"), "cannot hold"),
        (HttpRule("GET", "/x/{many_string}"), "cannot hold"),
        (HttpRule("POST", "/x", "nope"), "no field 'nope'"),
        (HttpRule("POST", "/x", "child.child"), "one field"),
    ],
)
def test_a_rule_that_does_not_fit_is_refused_at_once(rule: HttpRule, reason: str) -> None:
    router: Router[None] = Router()
    with pytest.raises(ValueError, match=reason):
        Transcoder(AllTypes, rule, router.add(rule.verb, rule.path, None), GOOGLE)
