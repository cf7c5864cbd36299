"""Splitting a manifest by service."""

from __future__ import annotations

import pytest
import yaml

from shared.cli.kinds import Kinds, Place
from shared.cli.manifest import lists, split
from shared.cli.yard import CommandError
from shared.pb.roundhouse.admin.v1 import admin_pb2

KNOWN = Kinds(
    places=[
        Place("pipelines", admin_pb2.Kind(kind="experiment", plural="experiments", writable=True)),
        Place("meta", admin_pb2.Kind(kind="region", plural="regions", writable=True)),
        Place("meta", admin_pb2.Kind(kind="resource", plural="resources", writable=True)),
        Place("pods", admin_pb2.Kind(kind="pod", plural="pods")),
    ]
)


def test_each_service_gets_its_lists() -> None:
    parts = split(lists("regions: [{name: a}]\nexperiments: []\nresources: [{name: b}]"), KNOWN)
    assert {service: yaml.safe_load(part) for service, part in parts.items()} == {
        "meta": {"regions": [{"name": "a"}], "resources": [{"name": "b"}]},
        "pipelines": {"experiments": []},
    }


def test_values_stay_as_written() -> None:
    """Dates, numbers and quoted numbers mean what the service makes of them."""
    text = 'experiments: [{at: 2024-02-29T12:00:00Z, n: 007, s: "5", t: yes, e: "", f: 1e3}]'
    part = split(lists(text), KNOWN)["pipelines"]
    assert yaml.load(part, yaml.BaseLoader) == yaml.load(text, yaml.BaseLoader)
    assert yaml.safe_load(part) == yaml.safe_load(text)


def test_anchors_and_documents_are_joined() -> None:
    text = """
regions: [&base {name: a, title: t}]
resources: [{<<: *base, name: b}]
---
regions: [{name: c}]
"""
    part = yaml.safe_load(split(lists(text), KNOWN)["meta"])
    assert part == {
        "regions": [{"name": "a", "title": "t"}, {"name": "c"}],
        "resources": [{"name": "b", "title": "t"}],
    }


@pytest.mark.parametrize("text", ["", "---\n", "# nothing\n"])
def test_nothing_is_no_list(text: str) -> None:
    assert lists(text) == {}


@pytest.mark.parametrize("text", ["regions:", "regions: null", "regions: []"])
def test_an_empty_list_is_one(text: str) -> None:
    assert yaml.safe_load(split(lists(text), KNOWN)["meta"]) == {"regions": []}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("experiments: [", "the manifest is not YAML: .* at line 2"),
        ("experiments:\n- name: a\n  b: {c: 1, c: 2}", "line 3: the key 'c' stands twice"),
        ("experiments: &a\n- {b: *a, c: 1}\n- {c: 1,\n   c: 1}", "line 4: the key 'c' stands twice"),
        ("- a\n- b", "line 1: a manifest is lists named by kind"),
        ("just text", "line 1: a manifest is lists named by kind"),
        ("regions: []\nexperiments: 7", "line 2: 'experiments' must be a list"),
        ("experiments: []\nexperiments: []", "line 2: the list 'experiments' stands twice"),
        ("experiments: [!!python/name:os.system x]\nregions: {}", "line 2: 'regions' must be a list"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(text: str, message: str) -> None:
    with pytest.raises(CommandError, match=message):
        lists(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dragons: []", "dragons: no service keeps such a list; there are: experiments, regions"),
        ("pods: []", "pods: the pods service does not let a manifest write these"),
    ],
)
def test_lists_that_nobody_takes(text: str, message: str) -> None:
    with pytest.raises(CommandError, match=message):
        split(lists(text), KNOWN)


@pytest.mark.parametrize("text", ["experiment", "experiments", " Experiments ", "EXPERIMENT"])
def test_a_kind_goes_by_singular_and_plural(text: str) -> None:
    assert KNOWN.find(text).service == "pipelines"
