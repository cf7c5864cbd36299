"""What docs/apis/pipelines.md shows is what the service does."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.pipelines.experiment import SCHEMA
from shared.pb.backend.api.v1beta1 import experiment_pb2 as v1
from shared.pb.backend.api.v1beta1 import filter_pb2
from shared.pb.backend.api.v2beta1 import experiment_pb2 as v2
from shared.rpc.method import http_rules
from shared.service.config import SETTINGS
from tests.contract.pipelines_yard import V1, V2, Yard, opened

PAGE = (Path(__file__).parents[2] / "docs/apis/pipelines.md").read_text()


def table(head: str) -> list[list[str]]:
    """The cells of the table whose first line begins with `head`."""
    lines = PAGE[PAGE.index(f"\n| {head}") + 1 :].splitlines()
    rows = []
    for line in lines[2:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip().strip("`") for cell in line.strip("|").split("|")])
    return rows


EXPERIMENTS = table("id | name | created_at")
FILTERS = table("`filter`")
SORTS = table("`sort_by`")


@pytest.fixture
async def shown(tmp_path: Path) -> AsyncIterator[Yard]:
    """A service that holds the page's experiments."""
    names = ("experiment_id", "display_name", "created_at", "description", "storage_state")
    manifest = json.dumps({"experiments": [dict(zip(names, row, strict=True)) for row in EXPERIMENTS]})
    async with opened(tmp_path) as yard:
        assert (await yard.rest("POST", "/admin/v1/apply", {"manifest": manifest})).status == 200
        yield yard


async def test_the_filters_match_what_the_page_says(shown: Yard) -> None:
    for text, expected in FILTERS:
        for path, key, spelled in (
            (V1, "id", text),
            (V2, "experiment_id", text.replace('"op"', '"operation"')),
        ):
            found = (await shown.list(path, filter=spelled)).get("experiments", [])
            assert [item[key] for item in found] == expected.split(), text


async def test_the_sorts_order_as_the_page_says(shown: Yard) -> None:
    for text, expected in SORTS:
        found = (await shown.list(sort_by=text))["experiments"]
        assert [item["id"] for item in found] == expected.split(), text


def test_every_operation_and_key_has_an_example() -> None:
    used = [predicate for text, _ in FILTERS for predicate in json.loads(text)["predicates"]]
    operations = {value.name for value in filter_pb2.Predicate.Op.DESCRIPTOR.values} - {"UNKNOWN"}
    assert {predicate["op"] for predicate in used} >= operations
    assert {text.split()[0].lower() for text, _ in SORTS} == set(SCHEMA.names)
    for name in SCHEMA.names:
        assert f"`{name}`" in PAGE


def test_every_method_and_route_is_named() -> None:
    for module in (v1, v2):
        service = module.DESCRIPTOR.services_by_name["ExperimentService"]
        assert f"`{service.full_name}`" in PAGE
        for method in service.methods:
            assert f"`{method.name}`" in PAGE
            for rule in http_rules(method):
                if module is v1:
                    assert f"| {rule.verb} | `{rule.path}` |" in PAGE


def test_its_settings_exist() -> None:
    named = set(re.findall(r"ROUNDHOUSE_\w+", PAGE))
    assert named <= {setting.variable for setting in SETTINGS}
    ours = {setting.variable for setting in SETTINGS if setting.help.startswith("Pipelines:")}
    assert ours <= named


async def test_the_error_body_is_the_one_that_is_shown(shown: Yard) -> None:
    example = json.loads(PAGE[PAGE.index('```json\n{\n  "error"') + 8 :].split("```")[0])
    assert (await shown.rest("POST", V1, {"name": ""})).body == example


async def test_the_metrics_are_named_as_the_page_says(shown: Yard) -> None:
    async with shown.http.get(shown.service.url + "/metrics") as answer:
        names = {line.split()[0] for line in (await answer.text()).splitlines() if line[:1] != "#"}
    for verb in ("create", "get", "list", "delete", "archive", "unarchive"):
        assert f"experiment_server_{verb}_requests" in names
        assert f"`_{verb}_`" in PAGE or f"experiment_server_{verb}_requests" in PAGE
    assert "experiment_server_run_count" in names
