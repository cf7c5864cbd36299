"""The OpenAPI document: every route is in it, and every reference leads somewhere."""

from __future__ import annotations

from typing import Any

import orjson

from services.pipelines.style import STYLE
from shared.rest import openapi
from shared.rest.path_template import parse
from shared.rest.style import GOOGLE
from tests.contract.gateway_server import (
    PODS,
    Handlers,
    methods,
)


def references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if "$ref" in value else []
        return own + [found for item in value.values() for found in references(item)]
    return [found for item in value for found in references(item)] if isinstance(value, list) else []


def test_the_openapi_document_is_whole() -> None:
    apis = [(api, style) for api, style in zip(methods(Handlers()), (STYLE, GOOGLE, PODS), strict=True)]
    document = orjson.loads(orjson.dumps(openapi.document("Title", "1.2", apis)))
    assert (document["openapi"], document["info"]) == ("3.1.0", {"title": "Title", "version": "1.2"})
    found = references(document)
    assert found
    for reference in found:
        target: Any = document
        for part in reference.removeprefix("#/").split("/"):
            target = target[part]
    operations = [
        (verb, path, operation)
        for path, item in document["paths"].items()
        for verb, operation in item.items()
    ]
    assert {(verb.upper(), path) for verb, path, _ in operations} == {
        ("POST", "/apis/v1beta1/experiments"),
        ("GET", "/apis/v1beta1/experiments"),
        ("GET", "/apis/v1beta1/experiments/{id}"),
        ("DELETE", "/apis/v1beta1/experiments/{id}"),
        ("POST", "/apis/v1beta1/experiments/{id}:archive"),
        ("GET", "/admin/v1/{kind}:watch"),
        ("GET", "/admin/v1/{kind}:get"),
        ("POST", "/admin/v1/access/signInCodes:redeem"),
        ("GET", "/v1/export/pods"),
    }
    assert len({operation["operationId"] for _, _, operation in operations}) == len(operations)
    for _, path, operation in operations:
        named = {p["name"] for p in operation["parameters"] if p["in"] == "path"}
        assert named == {part.split("}")[0] for part in path.split("{")[1:]}
        assert operation["responses"]["default"]["content"]
    listing = document["paths"]["/apis/v1beta1/experiments"]["get"]
    assert [p["name"] for p in listing["parameters"]] == [
        "page_token",
        "page_size",
        "sort_by",
        "filter",
        "resource_reference_key.type",
        "resource_reference_key.id",
    ]
    redeem = document["paths"]["/admin/v1/access/signInCodes:redeem"]["post"]
    assert redeem["security"] == []
    schemas = document["components"]["schemas"]
    assert schemas["api.Experiment.StorageState"]["enum"][1] == "STORAGESTATE_AVAILABLE"
    assert schemas["api.Experiment.proto_names"]["properties"]["created_at"]["format"] == "date-time"
    assert schemas["roundhouse.admin.v1.WatchResponse"]["properties"]["isCurrent"] == {"type": "boolean"}


def test_collections_name_the_parameters_of_their_segments() -> None:
    path, parameters = openapi.path_of(parse("/v1/{lease.name=namespaces/*/leases/*}"))
    assert path == "/v1/namespaces/{namespace}/leases/{lease}"
    assert [parameter["name"] for parameter in parameters] == ["namespace", "lease"]
    assert openapi.path_of(parse("/files/{path=**}:stat"))[0] == "/files/{path}:stat"
