"""Path templates and the router: what google.api.http and the contracts say of paths."""

from __future__ import annotations

import pytest

from shared.rest.path_template import Found, Missed, Router, decode, parse

ROUTES = [
    ("POST", "/apis/v1beta1/experiments"),
    ("GET", "/apis/v1beta1/experiments"),
    ("GET", "/apis/v1beta1/experiments/{id}"),
    ("DELETE", "/apis/v1beta1/experiments/{id}"),
    ("POST", "/apis/v1beta1/experiments/{id}:archive"),
    ("GET", "/v1alpha2/{name=regions/*}"),
    ("GET", "/v1alpha2/{name=regions/*/deployments/*}"),
    ("GET", "/v1alpha2/deployments:batchGet"),
    ("GET", "/v1alpha2/{parent=regions/*}/deployments"),
    ("POST", "/v1alpha2/{name=regions/*}:watch"),
    ("POST", "/v1alpha2/{parent=regions/*}/deployments:watch"),
    ("PATCH", "/v1/{lease.name=namespaces/*/leases/*}"),
    ("GET", "/admin/v1/kinds"),
    ("DELETE", "/admin/v1/{kind}"),
    ("GET", "/admin/v1/{kind}:get"),
    ("GET", "/files/{path=**}"),
    ("GET", "/files/{path=**}:stat"),
    ("GET", "/both/{left}/middle/{right=a/*}"),
]


@pytest.fixture(scope="module")
def router() -> Router[str]:
    found: Router[str] = Router()
    for verb, path in ROUTES:
        found.add(verb, path, f"{verb} {path}")
    return found


def bindings(found: Found[str] | Missed) -> dict[str, str]:
    assert isinstance(found, Found), found
    return {variable.field: variable.text(found.parts) for variable in found.template.variables}


@pytest.mark.parametrize(
    ("verb", "path", "route", "bound"),
    [
        ("GET", "/apis/v1beta1/experiments", 1, {}),
        ("GET", "/apis/v1beta1/experiments/abc", 2, {"id": "abc"}),
        ("GET", "/apis/v1beta1/experiments/a%2Fb", 2, {"id": "a/b"}),
        ("GET", "/apis/v1beta1/experiments/a%3Aarchive", 2, {"id": "a:archive"}),
        ("GET", "/apis/v1beta1/experiments/a%252Fb", 2, {"id": "a%2Fb"}),
        ("GET", "/apis/v1beta1/experiments/a+b", 2, {"id": "a+b"}),
        ("GET", "/apis/v1beta1/experiments/%E2%98%83", 2, {"id": "☃"}),
        ("GET", "/apis/v1beta1/experiments/☃", 2, {"id": "☃"}),
        ("GET", "/apis/v1beta1/experiments/..", 2, {"id": ".."}),
        ("GET", "/apis/v1beta1/experiments/%00", 2, {"id": "\0"}),
        ("POST", "/apis/v1beta1/experiments/abc:archive", 4, {"id": "abc"}),
        ("POST", "/apis/v1beta1/experiments/a%3Ab:archive", 4, {"id": "a:b"}),
        ("GET", "/v1alpha2/regions/r1", 5, {"name": "regions/r1"}),
        ("GET", "/v1alpha2/regions/r1/deployments/d", 6, {"name": "regions/r1/deployments/d"}),
        # Of a variable of several segments an encoded slash stays encoded: "*" is one segment.
        ("GET", "/v1alpha2/regions/a%2Fb%20c", 5, {"name": "regions/a%2Fb c"}),
        ("GET", "/v1alpha2/regions/a%2fb%252F", 5, {"name": "regions/a%2fb%2F"}),
        ("GET", "/v1alpha2/deployments:batchGet", 7, {}),
        ("GET", "/v1alpha2/regions/-/deployments", 8, {"parent": "regions/-"}),
        ("POST", "/v1alpha2/regions/r:watch", 9, {"name": "regions/r"}),
        ("POST", "/v1alpha2/regions/r/deployments:watch", 10, {"parent": "regions/r"}),
        ("PATCH", "/v1/namespaces/n/leases/l", 11, {"lease.name": "namespaces/n/leases/l"}),
        ("GET", "/admin/v1/kinds", 12, {}),
        # The literal route does not have the verb, the wildcard beside it does.
        ("DELETE", "/admin/v1/kinds", 13, {"kind": "kinds"}),
        ("GET", "/admin/v1/kinds:get", 14, {"kind": "kinds"}),
        ("GET", "/files/a/b/c", 15, {"path": "a/b/c"}),
        ("GET", "/files", 15, {"path": ""}),
        ("GET", "/files/a/b:stat", 16, {"path": "a/b"}),
        ("GET", "/both/x/middle/a/y", 17, {"left": "x", "right": "a/y"}),
        # A colon before the last segment starts no verb.
        ("GET", "/v1alpha2/regions/r:1/deployments", 8, {"parent": "regions/r:1"}),
    ],
)
def test_leads_to_the_route(
    router: Router[str], verb: str, path: str, route: int, bound: dict[str, str]
) -> None:
    found = router.match(verb, path)
    assert isinstance(found, Found), found
    assert found.target == " ".join(ROUTES[route])
    assert bindings(found) == bound


@pytest.mark.parametrize(
    "path",
    [
        "",
        "*",
        "/",
        "apis/v1beta1/experiments",
        "/apis/v1beta1/experiments/",
        "/apis/v1beta1/experiments/a/b",
        "/apis//experiments",
        "/apis/v1beta1/experiments/abc:",
        "/apis/v1beta1/experiments/abc:nothing",
        "/apis/v1beta1/experiments/a:b:archive",
        "/apis/v1beta1/experiments/:archive",
        "/APIS/v1beta1/experiments",
        "/v1alpha2/regions",
        "/v1alpha2/regions/r/services/s",
        "//apis/v1beta1/experiments",
    ],
)
def test_unknown_path(router: Router[str], path: str) -> None:
    assert router.match("GET", path) == Missed(())


def test_a_known_path_names_the_verbs_it_takes(router: Router[str]) -> None:
    assert router.match("PUT", "/apis/v1beta1/experiments") == Missed(("POST", "GET"))
    assert router.match("PUT", "/admin/v1/kinds") == Missed(("GET", "DELETE"))
    assert router.match("GET", "/apis/v1beta1/experiments/x:archive") == Missed(("POST",))


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/apis/v1beta1/experiments/%FF", "UTF-8"),
        ("/apis/v1beta1/experiments/%C0%AF", "UTF-8"),
        ("/apis/v1beta1/experiments/%ED%A0%80", "UTF-8"),
        ("/apis/v1beta1/experiments/\udcff", "UTF-8"),
        ("/apis/v1beta1/experiments/100%", "%25"),
        ("/apis/v1beta1/experiments/%zz", "%25"),
        ("/apis/v1beta1/experiments/%4", "%25"),
    ],
)
def test_what_cannot_be_decoded_is_refused(router: Router[str], path: str, reason: str) -> None:
    found = router.match("GET", path)
    assert isinstance(found, Found)
    with pytest.raises(ValueError, match=reason):
        found.template.variables[0].text(found.parts)


@pytest.mark.parametrize(
    "text",
    [
        "no/slash",
        "/a/{b",
        "/a/b}",
        "/a/{b=c/{d}}",
        "/a/**/b",
        "/a/{b=**}/c",
        "/a/{1x}",
        "/a/{b}/{b}",
        "/a/b*",
        "/a//b",
        "/a/{b}:",
        "/a/{b}:x/y",
        "/",
    ],
)
def test_a_broken_template_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse(text)


def test_two_routes_of_one_shape_are_refused(router: Router[str]) -> None:
    own: Router[str] = Router()
    own.add("GET", "/a/{b}", "one")
    own.add("POST", "/a/{b}", "two")
    with pytest.raises(ValueError, match="same route"):
        own.add("GET", "/a/{other=*}", "three")


def test_a_route_for_any_verb_gives_way_to_the_verb_itself() -> None:
    own: Router[str] = Router()
    own.add("*", "/a", "any")
    own.add("GET", "/a", "get")
    assert [own.match(verb, "/a").target for verb in ("GET", "PUT")] == ["get", "any"]  # type: ignore[union-attr]


def test_the_literal_prefix_ends_at_the_first_wildcard() -> None:
    assert parse("/v1/{lease.name=namespaces/*/leases/*}").prefix == ("v1", "namespaces")
    assert parse("/v1alpha2/deployments:batchGet").prefix == ("v1alpha2", "deployments")


def test_decoding_is_done_once() -> None:
    assert decode("%2541") == "%41"
    assert decode("a%2fb%41") == "a/bA"
