"""Label selectors: what parses to what, and that the three ways to test one agree."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import InvalidArgument
from shared.pb.jumpstarter.client.v1.client_pb2 import Exporter
from shared.query import evaluate, labels
from shared.query.ast import And, EntryOrder, HasEntries, Node, Not, Or
from shared.query.descriptor_schema import DescriptorSchema
from shared.query.dialects import selector
from shared.query.dialects.selector import Requirement, Selector, parse, wanted
from shared.query.pushdown import narrow

SCHEMA = DescriptorSchema(Exporter.DESCRIPTOR, names={})
PAGE = (Path(__file__).parents[2] / "docs/apis/jumpstarter.md").read_text()

# Few of each, so that requirements and labels meet; "in" is a word like any other in these places.
keys = st.sampled_from(["a", "b", "in", "notin", "x.io/a", "Z_9"])
values = st.sampled_from(["", "1", "2", "10", "007", "x", "in", "9223372036854775808", "v.1"])
some = st.lists(values, min_size=1, max_size=4).map(tuple)
requirements = st.one_of(
    st.builds(Requirement, keys, st.just("="), values.map(lambda value: (value,))),
    st.builds(Requirement, keys, st.sampled_from(["in", "notin"]), some),
    st.builds(Requirement, keys, st.sampled_from(["exists", "!exists"])),
    st.builds(
        Requirement, keys, st.sampled_from(["<", ">"]), st.integers(0, 20).map(lambda number: (str(number),))
    ),
)
selectors = st.lists(requirements, max_size=5).map(lambda items: Selector(tuple(items)))
label_sets = st.dictionaries(keys, values, max_size=6)


def naive(item: Requirement, found: dict[str, str]) -> bool:
    """The contract's sentences, one by one."""
    match item.operator:
        case "=" | "in":
            return item.key in found and found[item.key] in item.values
        case "notin":
            return item.key not in found or found[item.key] not in item.values
        case "exists":
            return item.key in found
        case "!exists":
            return item.key not in found
    if not re.fullmatch(r"\d+", found.get(item.key, "")) or int(found[item.key]) >= 2**63:
        return False
    number, bound = int(found[item.key]), int(item.values[0])
    return number > bound if item.operator == ">" else number < bound


@given(selectors)
def test_the_text_of_a_selector_parses_to_it(found: Selector) -> None:
    assert parse(str(found)) == found
    assert str(parse(str(found))) == str(found)
    assert hash(parse(str(found))) == hash(found)


@given(items=st.lists(requirements, max_size=5), found=label_sets)
def test_a_selector_means_what_the_contract_says(items: list[Requirement], found: dict[str, str]) -> None:
    chosen = Selector(tuple(items))
    expected = all(naive(item, found) for item in items)
    message = Exporter(labels=found)
    assert chosen.matches(found) == expected
    assert chosen.matches(message.labels) == expected
    assert dict(message.labels) == found, "a look-up adds no entry"
    assert evaluate.compile(chosen.node("labels"), SCHEMA)(message) == expected


@given(selectors)
def test_no_backend_narrows_by_labels_that_it_does_not_keep(chosen: Selector) -> None:
    narrowed = narrow(chosen.node("labels"), SCHEMA)
    assert narrowed.conditions == ()
    assert narrowed.exact == (not chosen.requirements)


@given(selectors, st.text(" \t\r\n", max_size=3))
def test_blanks_between_words_mean_nothing(chosen: Selector, blank: str) -> None:
    parts = re.findall(r"==|!=|[=!<>(),]|[^=!<>(),\s]+|\s", str(chosen))
    assert parse(blank + blank.join(parts) + blank) == chosen


@given(st.text("ab=!<>(), in-1/.", max_size=20))
def test_any_text_parses_or_is_refused_with_a_position(text: str) -> None:
    try:
        found = parse(text)
    except InvalidArgument as error:
        assert error.position is not None and 0 <= error.position <= len(text)
        assert error.violations[0].field == "filter"
    else:
        assert parse(str(found)) == found


CANONICAL = [
    ("", ""),
    ("  ", ""),
    ("b=2,a=1", "a=1,b=2"),
    ("a==1", "a=1"),
    ("a = 1 , a=1", "a=1"),
    ("a!=1", "a notin (1)"),
    ("a!=2,a!=1,a!=2", "a notin (1,2)"),
    ("a!=2,a notin (3, 1)", "a notin (1,2,3)"),
    ("a in (b, a, b)", "a in (a,b)"),
    ("a in (a)", "a in (a)"),
    ("a in (,)", "a in (,)"),
    ("a in (b,)", "a in (,b)"),
    ("a=", "a="),
    ("a!=,b", "a notin (,),b"),
    ("! a", "!a"),
    ("in in (in)", "in in (in)"),
    ("!notin", "!notin"),
    ("a > 007", "a>7"),
    ("a<9223372036854775807", "a<9223372036854775807"),
    ("example.com/a.B_c-1=X.y_z-1", "example.com/a.B_c-1=X.y_z-1"),
]


@pytest.mark.parametrize(("text", "canonical"), CANONICAL)
def test_canonical_text(text: str, canonical: str) -> None:
    assert str(parse(text)) == canonical


WRONG = [
    ("a,", 2, "a label key is expected, not the end"),
    (",a", 0, "a label key is expected, not ','"),
    ("a,,b", 2, "a label key is expected"),
    ("a in ()", 6, "the list of values is empty"),
    ("a in", 4, "'(' is expected"),
    ("a in b", 5, "'(' is expected before the values, not 'b'"),
    ("a in (b", 7, "',' or ')' is expected after a value, not the end"),
    ("a in (b c)", 8, "',' or ')' is expected"),
    ("a in (b=c)", 7, "',' or ')' is expected"),
    ("a IN (b)", 2, "'IN' is no operator; use one of"),
    ("a===b", 3, "a value is expected, not '='"),
    ("a=!b", 2, "a value is expected, not '!'"),
    ("a b", 2, "'b' is no operator"),
    ("a!b", 1, "'!' is no operator"),
    ("a>=1", 2, "a value is expected, not '='"),
    ("!a=b", 2, "',' or the end is expected after a requirement, not '='"),
    ("!!a", 1, "a label key is expected, not '!'"),
    ("!", 1, "a label key is expected, not the end"),
    ("a=b c", 4, "',' or the end is expected"),
    ("a)", 1, "')' is no operator"),
    ("a > x", 4, "an integer is expected, not 'x'"),
    ("a >", 3, "an integer is expected, not the end"),
    ("a > -1", 4, "is no label value"),
    ("a > 9223372036854775808", 4, "an integer is expected"),
    ("-a=b", 0, "is no label key"),
    ("a/b/c=d", 0, "is no label key"),
    ("/a=b", 0, "is no label key"),
    ("A/a=b", 0, "before the '/' stand at most 253"),
    ("a=b-", 2, "is no label value"),
    ("ä=b", 0, "is no label key"),
    ("a=" + 64 * "v", 2, "at most 63"),
    (64 * "k", 0, "1 to 63"),
    ("a\0=b", 0, "is no label key"),
]


@pytest.mark.parametrize(("text", "position", "says"), WRONG)
def test_wrong_texts(text: str, position: int, says: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse(text, parameter="tag_filter")
    assert caught.value.position == position
    assert caught.value.violations[0].field == "tag_filter"
    assert caught.value.message.startswith(f"tag_filter: at position {position}: ")
    assert says in caught.value.message


def test_limits() -> None:
    most = ",".join(f"k{number}" for number in range(selector.MAX_REQUIREMENTS))
    assert len(parse(most).requirements) == selector.MAX_REQUIREMENTS
    refused(f"{most},one", "at most 200 requirements")
    listed = ",".join(map(str, range(selector.MAX_VALUES)))
    assert len(parse(f"a in ({listed})").requirements[0].values) == selector.MAX_VALUES
    refused(f"a in ({listed},x)", "at most 1000 values")
    assert parse("a".ljust(selector.MAX_CHARACTERS)) == parse("a")
    refused("a".ljust(selector.MAX_CHARACTERS + 1), "at most 65536 characters")
    assert len(refused("x" * selector.MAX_CHARACTERS, "is no label key").message) < 1000


def refused(text: str, says: str) -> InvalidArgument:
    with pytest.raises(InvalidArgument) as caught:
        parse(text)
    assert says in caught.value.message
    return caught.value


@pytest.mark.parametrize("text", ["a=1", "a==1", "a=1,a=1", "a!=1,a!=2,a", "!a", "a in (1),b notin (2)", ""])
def test_what_a_lease_may_ask_for(text: str) -> None:
    assert wanted(text) == parse(text)


@pytest.mark.parametrize(
    ("text", "position", "says"),
    [
        ("b,a>1", 2, "cannot have '>'"),
        ("a < 1", 0, "cannot have '<'"),
        ("a=1,b=1,a=2", 8, "a cannot be both '1' and '2'"),
        ("a==1,a=", 5, "a cannot be both '1' and ''"),
        ("a===b", 3, "a value is expected"),
    ],
)
def test_what_a_lease_may_not_ask_for(text: str, position: int, says: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        wanted(text)
    assert (caught.value.position, caught.value.violations[0].field) == (position, "lease.selector")
    assert says in caught.value.message


def test_the_tree_over_a_map_field() -> None:
    def entry(key: str, value: str | None) -> Node:
        return HasEntries("labels", ((key, value),))

    assert parse("").node("labels") == And(())
    assert parse("a=1").node("labels") == entry("a", "1")
    assert parse("b>1,a in (1,2),!c,d!=3,e").node("labels") == And(
        (
            Or((entry("a", "1"), entry("a", "2"))),
            EntryOrder("labels", "b", ">", 1),
            Not(entry("c", None)),
            Not(entry("d", "3")),
            entry("e", None),
        )
    )


def test_equalities() -> None:
    assert parse("a=1,b in (2),c!=3,d,e=").equalities == {"a": "1", "e": ""}


def test_a_prefix_goes_before_each_key() -> None:
    assert str(parse("b!=1,a").prefixed("x.io/")) == "x.io/a,x.io/b notin (1)"
    with pytest.raises(InvalidArgument) as caught:
        parse("y.io/a").prefixed("x.io/", parameter="tag_filter")
    assert caught.value.message == "tag_filter: the key 'y.io/a' cannot follow 'x.io/'"


def test_of_messages() -> None:
    found = selector.of(
        {"b": "1", "a": ""},
        [("c", "In", ["2", "1"]), ("d", "NotIn", ["3"]), ("e", "Exists", []), ("f", "DoesNotExist", [])],
    )
    assert str(found) == "a=,b=1,c in (1,2),d notin (3),e,!f"
    assert selector.of({}) == Selector()
    assert Selector().matches({}) and Selector().matches({"a": "1"})


def test_all_that_is_wrong_with_a_message_is_said() -> None:
    expressions = [("-", "In", []), ("a", "in", ["x"]), ("a", "Exists", ["1"]), ("a", "NotIn", ["ok", "-"])]
    with pytest.raises(InvalidArgument) as caught:
        selector.of({"k": "-"}, expressions, parameter="client_selector")
    assert [violation.field.removeprefix("client_selector.") for violation in caught.value.violations] == [
        "match_labels['k']",
        "match_expressions[0].key",
        "match_expressions[0].values",
        "match_expressions[1].operator",
        "match_expressions[2].values",
        "match_expressions[3].values[1]",
    ]
    with pytest.raises(InvalidArgument, match="more than 200 requirements"):
        selector.of({}, [("a", "Exists", [])] * 201)
    with pytest.raises(InvalidArgument, match="more than 1000 entries"):
        selector.of({}, [("a", "In", ["1"] * 1001)])


@pytest.mark.parametrize(
    ("text", "number"),
    [("0", 0), ("-5", -5), ("+5", 5), ("007", 7), (str(2**63 - 1), 2**63 - 1), (str(-(2**63)), -(2**63))],
)
def test_integers(text: str, number: int) -> None:
    assert labels.integer(text) == number


@pytest.mark.parametrize("text", ["", "x", "1.0", "1_0", " 1", "1 ", "٣", str(2**63), "1" * 64, "--1"])
def test_no_integers(text: str) -> None:
    assert labels.integer(text) is None


def examples(language: str) -> list[tuple[str, str]]:
    found = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    lines = [line.rpartition("-- ") for block in found for line in block.splitlines()]
    assert lines and all(separator for _, separator, _ in lines)
    return [(text.rstrip(), says) for text, _, says in lines]


@pytest.mark.parametrize(("text", "says"), examples("selector"))
def test_the_examples_of_the_page(text: str, says: str) -> None:
    rows = dict(re.findall(r"^\| `(bench-\d)` \| (.*) \|$", PAGE, re.MULTILINE))
    boards = {name: dict(re.findall(r"`(\S+)=(\S*)`", cell)) for name, cell in rows.items()}
    matches = parse(text).matches
    found = [name.removeprefix("bench-") for name, carried in boards.items() if matches(carried)]
    assert " ".join(found) == says.replace("none", "")


@pytest.mark.parametrize(("text", "says"), examples("wrong-selector"))
def test_the_wrong_examples_of_the_page(text: str, says: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse(text)
    position, _, reason = says.partition(": ")
    assert caught.value.position == int(position)
    assert reason in caught.value.message


@pytest.mark.parametrize(("text", "says"), examples("canonical-selector"))
def test_the_canonical_examples_of_the_page(text: str, says: str) -> None:
    assert str(wanted(text)) == says


def test_the_page_has_the_limits() -> None:
    said = " ".join(PAGE.split())
    assert f"{selector.MAX_CHARACTERS // 1024} KiB of text" in said
    assert f"{selector.MAX_REQUIREMENTS} requirements" in said
    assert f"{selector.MAX_VALUES:,} values in a list" in said
