"""Every example of docs/filters.md does what the page says."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import json_format

from services.meta.kinds import KINDS, MetaKind
from shared.errors import InvalidArgument
from shared.query import order_by
from shared.query.evaluate import compile

PAGE = (Path(__file__).parents[2] / "docs/filters.md").read_text()
_FENCE = re.compile(r"^```(\S+)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BY_COLLECTION = {kind.collection: kind for kind in KINDS}


@dataclass(frozen=True)
class Example:
    kind: MetaKind
    text: str
    says: str

    def __str__(self) -> str:
        return f"{self.kind.collection}: {self.text}"


def examples(language: str) -> list[Any]:
    """The lines of the page's blocks in that language."""
    found = []
    for name, collection, body in _FENCE.findall(PAGE):
        if name == language:
            for line in body.splitlines():
                text, separator, says = line.rpartition("-- ")
                assert separator, f"{line!r} does not say what is expected"
                found.append(Example(BY_COLLECTION[collection], text.rstrip(), says))
    return [pytest.param(example, id=str(example)) for example in found]


def resources(kind: MetaKind) -> list[Any]:
    (manifest,) = [body for name, _, body in _FENCE.findall(PAGE) if name == "yaml"]
    return [json_format.ParseDict(item, kind.message()) for item in yaml.safe_load(manifest)[kind.collection]]


def short(kind: MetaKind, message: Any) -> str:
    """The name without what is the same in all of the kind on the page."""
    return str(message.name.removeprefix("regions/").removeprefix("services/").split("resources/")[-1])


@pytest.mark.parametrize("example", examples("filter"))
def test_filters(example: Example) -> None:
    kind = example.kind
    matches = compile(kind.dialect.parse(example.text), kind.schema)
    every = resources(kind)
    found = [short(kind, message) for message in every if matches(message)]
    if example.says == "all":
        assert len(found) == len(every)
    else:
        assert " ".join(found) == example.says.replace("none", "")


@pytest.mark.parametrize("example", examples("filter"))
def test_filters_with_their_comments(example: Example) -> None:
    """As they stand on the page: the comment belongs to the language."""
    dialect = example.kind.dialect
    assert dialect.parse(f"{example.text} -- {example.says}") == dialect.parse(example.text)


@pytest.mark.parametrize("example", examples("wrong"))
def test_wrong_filters(example: Example) -> None:
    refused(example, lambda: example.kind.dialect.parse(example.text))


@pytest.mark.parametrize("example", examples("order"))
def test_orders(example: Example) -> None:
    kind = example.kind
    ordering = order_by.parse(example.text, kind.schema)
    key = ordering.sort_key()
    found = sorted(resources(kind), key=lambda message: key((ordering.values(message), message.name)))
    assert " ".join(short(kind, message) for message in found) == example.says


@pytest.mark.parametrize("example", examples("wrong-order"))
def test_wrong_orders(example: Example) -> None:
    refused(example, lambda: order_by.parse(example.text, example.kind.schema))


def refused(example: Example, parse: Any) -> None:
    position, _, says = example.says.partition(": ")
    with pytest.raises(InvalidArgument) as caught:
        parse()
    assert caught.value.position == int(position)
    assert says in caught.value.message


def test_the_page_shows_every_word_of_the_language() -> None:
    shown = " ".join(example.values[0].text for example in examples("filter"))
    words = "AND or NOT IN IS NULL NAN LIKE CONTAINS CONTAIN HAS HAVE ANY ALL VALUE TRUE FALSE"
    signs = ["=", "==", "!=", "<", "<=", ">", ">=", "+", "|", "(", "[", "{"]
    assert [word for word in (*words.split(), *signs) if word not in re.split(r"\s|(?<=[(\[{])", shown)] == []


def test_the_page_names_the_indexed_fields() -> None:
    said = PAGE[PAGE.index("answered from an index") :]
    for kind in KINDS:
        for path in kind.indexed:
            assert path.replace("_", " ") in said or path in said, (kind.title, path)


def test_the_page_has_the_limits() -> None:
    from shared.query.dialects import sqlish

    said = " ".join(PAGE.split())
    assert f"{sqlish.MAX_BYTES // 1024} KiB of UTF-8, {sqlish.MAX_CONDITIONS} conditions" in said
    assert f"{sqlish.MAX_LIST} entries in a list" in said
    assert f"and of values) of {sqlish.MAX_DEPTH}." in said
