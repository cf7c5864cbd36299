"""What filters mean, a row a rule: which of a handful of resources match."""

from __future__ import annotations

import math
from typing import Any

import pytest
from google.protobuf.wrappers_pb2 import DoubleValue
from google.rpc.error_details_pb2 import RetryInfo

from shared.errors import InvalidArgument
from shared.pb.edgelq_sdk.meta.proto.v1alpha2.deployment_pb2 import Deployment
from shared.pb.edgelq_sdk.meta.proto.v1alpha2.region_pb2 import Region
from shared.pb.edgelq_sdk.meta.proto.v1alpha2.service_pb2 import Service
from shared.query.descriptor_schema import DescriptorSchema
from shared.query.dialects.sqlish import Sqlish
from shared.query.dialects.sqlish_print import text
from shared.query.evaluate import compile
from tests.unit.filter_samples import DEPLOYMENT_SAMPLE, REGION_SAMPLE, SERVICE_SAMPLE, Sample


def eu() -> Region:
    """Everything set."""
    found = Region(name="regions/eu", title="Europe", domain="eu.example.com", is_default=True)
    found.location.city = "Rome"
    found.connectivity_scores.add(dest="regions/us", score=-3)
    found.connectivity_scores.add(dest="regions/jp", score=5)
    meta = found.metadata
    meta.create_time.FromJsonString("2024-01-01T00:00:00Z")
    meta.uuid = "u-1"
    meta.tags.extend(["gold", "eu"])
    meta.labels.update({"env": "prod", "tier": "", "example.com/zone": "a"})
    meta.shards["byName"] = 4
    meta.generation = 7
    meta.owner_references.add(kind="Fleet", name="f", controller=True)
    meta.lifecycle.state = meta.lifecycle.ACTIVE
    return found


def us() -> Region:
    """Parents that are present, with nothing in them."""
    found = Region(name="regions/us", title="Éire%_")
    found.location.SetInParent()
    found.metadata.lifecycle.SetInParent()
    found.connectivity_scores.add(score=5)
    return found


def jp() -> Region:
    """Nothing but a name."""
    return Region(name="regions/jp")


ALL = {"eu": eu(), "us": us(), "jp": jp()}


def matching(filter: str, sample: Sample = REGION_SAMPLE, resources: dict[str, Any] = ALL) -> str:
    matches = compile(sample.dialect.parse(filter), sample.schema)
    return " ".join(name for name, resource in resources.items() if matches(resource))


@pytest.mark.parametrize(
    ("filter", "expected"),
    [
        ("", "eu us jp"),
        ("()", "eu us jp"),
        # Null: messages, times, names and references, lists, maps, keys, and all below what is unset.
        ("location IS NULL", "jp"),
        ("location IS NOT NULL", "eu us"),
        ("location = NULL", "jp"),
        ("location != NULL", "eu us"),
        ("metadata IS NULL", "jp"),
        ("metadata.create_time IS NULL", "us jp"),
        ("metadata.tags IS NULL", "us jp"),
        ("metadata.labels IS NULL", "us jp"),
        ("metadata.labels.env IS NULL", "us jp"),
        ("metadata.labels.tier IS NULL", "us jp"),
        ("metadata.labels.none IS NULL", "eu us jp"),
        ("connectivity_scores IS NULL", "jp"),
        ("connectivity_scores.dest IS NULL", "us jp"),
        ("connectivity_scores.score IS NULL", "jp"),
        ("name IS NULL", ""),
        # A plain value in a message that is there is never null, even at its default.
        ("title IS NULL", ""),
        ("location.city IS NULL", "jp"),
        ("metadata.uuid IS NULL", "jp"),
        ("metadata.generation IS NULL", "jp"),
        ("metadata.lifecycle.state IS NULL", "jp"),
        ("is_default = NULL", ""),
        # Compared: what is missing is "" or 0 or false.
        ('location.city = ""', "us jp"),
        ('location.city != "Rome"', "us jp"),
        ('location.city < "A"', "us jp"),
        ('metadata.labels.env = ""', "us jp"),
        ('metadata.labels.env != "prod"', "us jp"),
        ('metadata.labels.none = ""', "eu us jp"),
        ('metadata.labels.tier = ""', "eu us jp"),
        ("metadata.generation = 0", "us jp"),
        ("metadata.generation >= 0", "eu us jp"),
        ("metadata.shards.byName < 4", "us jp"),
        ("metadata.lifecycle.state = 0", "us jp"),
        ("metadata.lifecycle.block_deletion = FALSE", "eu us jp"),
        ("is_default = FALSE", "us jp"),
        # A time that is unset is before every time.
        ('metadata.create_time < "0001-01-01T00:00:00Z"', "us jp"),
        ('metadata.delete_time < "2030-01-01T00:00:00Z"', "eu us jp"),
        ('metadata.delete_time != "2030-01-01T00:00:00Z"', "eu us jp"),
        ('metadata.create_time > "0001-01-01T00:00:00Z"', "eu"),
        ('NOT metadata.create_time < "2024-01-01T00:00:00Z"', "eu"),
        # An instant, whatever the offset.
        ('metadata.create_time = "2024-01-01T02:00:00+02:00"', "eu"),
        ('metadata.create_time <= "2023-12-31T23:59:59.999999999Z"', "us jp"),
        # Text by code point, case counting; false < true; enums by number.
        ('title > "Z"', "us"),
        ('title >= "Europe"', "eu us"),
        ('title = "europe"', ""),
        ("is_default > FALSE", "eu"),
        ("is_default <= TRUE", "eu us jp"),
        ('metadata.lifecycle.state >= "ACTIVE"', "eu"),
        ('metadata.lifecycle.state < "ACTIVE"', "us jp"),
        # Names, with a wildcard for = and != only; otherwise as text.
        ('name = "regions/us"', "us"),
        ('name = "regions/-"', "eu us jp"),
        ('name != "regions/-"', ""),
        ('name > "regions/eu"', "us jp"),
        ('name > "regions/-"', "eu us jp"),
        ('name IN ("regions/us", "regions/-")', "us"),
        ('name NOT IN ("regions/-")', "eu us jp"),
        # Whole messages: an unset one equals nothing.
        ('location = {"city": "Rome"}', "eu"),
        ("location = {}", "us"),
        ("location != {}", "eu jp"),
        ('location = {"city": "Rome", "country": "it"}', ""),
        # Whole maps: an unset one is empty.
        ('metadata.labels = {"env": "prod", "tier": "", "example.com/zone": "a"}', "eu"),
        ('metadata.labels = {"env": "prod"}', ""),
        ("metadata.labels = {}", "us jp"),
        ("metadata.labels != {}", "eu"),
        ('metadata.shards = {"byName": 4}', "eu"),
        # Any of the elements; != is the negation of =.
        ("connectivity_scores.score < 0", "eu"),
        ("connectivity_scores.score = 5", "eu us"),
        ("connectivity_scores.score != 5", "jp"),
        ("connectivity_scores.score > 5", ""),
        ('connectivity_scores.dest = "regions/jp"', "eu"),
        ('connectivity_scores.dest = "regions/-"', "eu"),
        ('connectivity_scores.dest != "regions/-"', "us jp"),
        ("connectivity_scores.score IN (-3, 7)", "eu"),
        ("connectivity_scores.score NOT IN (-3, 7)", "us jp"),
        ('connectivity_scores.dest LIKE "%/j_"', "eu"),
        ("metadata.owner_references.controller = TRUE", "eu"),
        ("metadata.owner_references.controller = FALSE", ""),
        # CONTAINS on lists, and on what lies below one.
        ('metadata.tags CONTAINS "gold"', "eu"),
        ('metadata.tags HAS "Gold"', ""),
        ('metadata.tags HAS ANY ("x", "eu")', "eu"),
        ('metadata.tags HAS ALL ("gold", "eu")', "eu"),
        ('metadata.tags HAS ALL ("gold", "x")', ""),
        ('connectivity_scores HAS {"dest": "regions/us", "score": -3}', "eu"),
        ('connectivity_scores HAS {"score": 5}', "us"),
        ('connectivity_scores HAS {"dest": "regions/us"}', ""),
        ("connectivity_scores.score CONTAINS 5", "eu us"),
        ("connectivity_scores.score CONTAINS ALL (5, -3)", "eu"),
        ('connectivity_scores.dest CONTAINS "regions/-"', ""),
        # CONTAINS on maps: entries and keys.
        ('metadata.labels CONTAINS "env:prod"', "eu"),
        ('metadata.labels CONTAINS "env:test"', ""),
        ('metadata.labels CONTAINS "env"', "eu"),
        ('metadata.labels CONTAINS "tier:"', "eu"),
        ('metadata.labels CONTAINS "none"', ""),
        ('metadata.labels CONTAINS {"env": "prod", "tier": ""}', "eu"),
        ('metadata.labels CONTAINS {"env": "prod", "tier": "x"}', ""),
        ("metadata.labels CONTAINS {}", "eu us jp"),
        ('metadata.labels CONTAINS ANY ("none", "env:prod")', "eu"),
        ('metadata.labels CONTAINS ALL ("none", "env:prod")', ""),
        ('metadata.labels CONTAINS "example.com/zone:a"', "eu"),
        ('metadata.shards CONTAINS "byName:4"', "eu"),
        ('metadata.shards CONTAINS {"byName": 4}', "eu"),
        # Keys with dots.
        (r'metadata.labels.example\.com/zone = "a"', "eu"),
        # LIKE: the whole value, case counting.
        ('title LIKE "Eur%"', "eu"),
        ('title LIKE "eur%"', ""),
        ('title LIKE "%r"', ""),
        ('title LIKE "_ire%"', "us"),
        (r'title LIKE "%\\%\\_"', "us"),
        ('title LIKE ""', "jp"),
        ('metadata.labels.none LIKE "%"', "eu us jp"),
        ('name LIKE "regions/_p"', "jp"),
        # There are no fractions, so nothing is no number.
        ("metadata.generation IS NAN", ""),
        ("metadata.generation IS NOT NAN", "eu us jp"),
        ("location IS NAN", ""),
        ("metadata.tags IS NOT NAN", "eu us jp"),
        # Two-valued logic.
        ('NOT metadata.labels.env = "prod"', "us jp"),
        ("NOT connectivity_scores.score < 0", "us jp"),
        ('title = "Europe" OR name = "regions/jp" AND is_default = TRUE', "eu"),
        ('(title = "Europe" OR name = "regions/jp") AND is_default = FALSE', "jp"),
        ('NOT title = "Europe" AND name = "regions/jp"', "jp"),
        ('NOT (title = "Europe" OR name = "regions/jp")', "us"),
        ('title = "" is_default = FALSE', "jp"),
    ],
)
def test_regions(filter: str, expected: str) -> None:
    assert matching(filter) == expected


def test_names_of_children() -> None:
    found = {
        name: Deployment(name=f"regions/{name[0]}/deployments/{name[1]}", service=service)
        for name, service in (("ax", "services/s"), ("ay", ""), ("bx", "services/s"))
    }

    def of(filter: str) -> str:
        return matching(filter, DEPLOYMENT_SAMPLE, found)

    assert of('name = "regions/a/deployments/-"') == "ax ay"
    assert of('name = "regions/-/deployments/x"') == "ax bx"
    assert of('name = "regions/-/deployments/-"') == "ax ay bx"
    assert of('service = "services/-"') == "ax bx"
    assert of('service != "services/-"') == "ay"
    assert of("service IS NULL") == "ay"
    assert of('service < "services/a"') == "ay"


def test_lists_of_text() -> None:
    found = {
        "a": Service(name="services/a", all_versions=["v2", "v1"], current_version="v2"),
        "b": Service(name="services/b"),
    }
    assert matching('all_versions HAS "v1"', SERVICE_SAMPLE, found) == "a"
    assert matching("allVersions IS NULL", SERVICE_SAMPLE, found) == "b"
    assert matching('NOT all-versions HAS ANY ("v1", "v3")', SERVICE_SAMPLE, found) == "b"


def test_testing_changes_nothing() -> None:
    before = [resource.SerializeToString(deterministic=True) for resource in ALL.values()]
    matching('location.city = "" metadata.labels.x = "" metadata.lifecycle.state = 0')
    assert [resource.SerializeToString(deterministic=True) for resource in ALL.values()] == before


# -- types that the catalogue does not have


def test_fractions() -> None:
    schema = DescriptorSchema(DoubleValue.DESCRIPTOR, names={})
    dialect = Sqlish(schema)
    found = {"half": DoubleValue(value=0.5), "nan": DoubleValue(value=math.nan), "none": DoubleValue()}

    def of(filter: str) -> str:
        node = dialect.parse(filter)
        assert dialect.parse(text(node, schema)) == node
        return " ".join(name for name, message in found.items() if compile(node, schema)(message))

    assert of("value = 0.5") == of("value = 5e-1") == of("value IN (0.5)") == "half"
    assert of("value < 1") == "half none"
    assert of("value IS NAN") == "nan"
    assert of("value IS NOT NAN") == "half none"
    for wrong in ('value = "0.5"', "value = 1e999", "value = TRUE"):
        with pytest.raises(InvalidArgument) as caught:
            dialect.parse(wrong)
        assert caught.value.position == 8


def test_durations() -> None:
    schema = DescriptorSchema(RetryInfo.DESCRIPTOR, names={})
    dialect = Sqlish(schema)
    found = {"long": RetryInfo(), "zero": RetryInfo(), "none": RetryInfo()}
    found["long"].retry_delay.FromJsonString("3.5s")
    found["zero"].retry_delay.SetInParent()

    def of(filter: str) -> str:
        node = dialect.parse(filter)
        assert dialect.parse(text(node, schema)) == node
        return " ".join(name for name, message in found.items() if compile(node, schema)(message))

    assert of('retryDelay = "3.500s"') == "long"
    assert of('retryDelay < "0s"') == of("retry_delay IS NULL") == "none"
    assert of('retry_delay > "-0.000000001s"') == "long zero"
    for wrong in ('retry_delay = "3.5"', "retry_delay = 3.5", 'retry_delay = "999999999999s"'):
        with pytest.raises(InvalidArgument) as caught:
            dialect.parse(wrong)
        assert caught.value.position == 14
