"""Random resources, filters and orders of the catalogue's four types, all from their descriptors."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from services.meta.names import DEPLOYMENT, REGION, RESOURCE, SERVICE
from shared.pb.edgelq_sdk.meta.proto.v1alpha2.deployment_pb2 import Deployment
from shared.pb.edgelq_sdk.meta.proto.v1alpha2.region_pb2 import Region
from shared.pb.edgelq_sdk.meta.proto.v1alpha2.resource_pb2 import Resource
from shared.pb.edgelq_sdk.meta.proto.v1alpha2.service_pb2 import Service
from shared.query import path as paths
from shared.query.descriptor_schema import DescriptorSchema
from shared.query.dialects.sqlish import Sqlish
from shared.query.schema import Field

# A little of everything that the language treats differently: empty, quoted, escaped, not ASCII, and
# what stands beside the code points that are no characters or have none behind them.
TEXTS = [
    "",
    "a",
    "b",
    "prod",
    "x%y_z",
    'q"\\',
    "Ä\n\u2028",
    "\U0001f600",
    "a\ud7ffx",
    "a\ue000",
    "\U0010ffffa",
]
KEYS = ["env", "app.example.com/tier", "b", "c:d", "1x", ""]
NUMBERS = [-(2**31), -3, -1, 0, 1, 7, 2**31 - 1]
TIMES = ["1969-12-31T23:59:59.999999999Z", "1970-01-01T00:00:00Z", "2024-02-29T12:00:00.000000001Z"]


@dataclass(frozen=True)
class Sample:
    """One type, with more indexed than its service has: also what may be null."""

    kind: str
    message: type[Message]
    schema: DescriptorSchema
    ids: tuple[str, ...]

    @property
    def dialect(self) -> Sqlish:
        return Sqlish(self.schema)

    @property
    def names(self) -> frozenset[str]:
        """The paths of names and references."""
        return frozenset(path for path in all_paths(self) if self.schema[path].type == "name")


def _sample(message: Any, names: dict[str, Any], indexed: tuple[str, ...], ids: tuple[str, ...]) -> Sample:
    kind = message.DESCRIPTOR.name.lower()
    schema = DescriptorSchema(message.DESCRIPTOR, names=names, indexed=(*indexed, *_INDEXED))
    return Sample(kind, message, schema, ids)


_INDEXED = (
    "metadata.create_time",
    "metadata.generation",
    "metadata.labels.env",
    "metadata.lifecycle.state",
    "metadata.lifecycle.block_deletion",
)
_SERVICES = tuple(f"services/{id}" for id in ("a", "meta.example.com", "z9"))
REGION_SAMPLE = _sample(
    Region,
    {"name": REGION, "connectivity_scores.dest": REGION},
    ("name", "title", "is_default", "location.city"),
    ("regions/a", "regions/eu-1", "regions/us"),
)
DEPLOYMENT_SAMPLE = _sample(
    Deployment,
    {"name": DEPLOYMENT, "service": SERVICE},
    ("service",),
    ("regions/a/deployments/x", "regions/us/deployments/x", "regions/us/deployments/y_1"),
)
SERVICE_SAMPLE = _sample(Service, {"name": SERVICE}, ("display_name", "name"), _SERVICES)
RESOURCE_SAMPLE = _sample(
    Resource,
    {"name": RESOURCE},
    ("plural_name", "is_regional"),
    ("services/a/resources/Node", "services/z9/resources/Node", "services/z9/resources/Pod"),
)
SAMPLES = (REGION_SAMPLE, DEPLOYMENT_SAMPLE, SERVICE_SAMPLE, RESOURCE_SAMPLE)


def names_of(form: Any) -> list[str]:
    """Stored names of that form."""
    return [id for sample in SAMPLES for id in sample.ids if form.accepts(id)]


# -- resources


def random_resource(sample: Sample, seed: random.Random, name: str) -> Any:
    message = sample.message()
    _fill(message, sample.schema, "", seed)
    message.name = name  # type: ignore[attr-defined]
    return message


def _fill(message: Any, schema: DescriptorSchema, prefix: str, seed: random.Random) -> None:
    for field in message.DESCRIPTOR.fields:
        if seed.random() < 0.35:
            continue
        path = f"{prefix}{field.name}"
        if paths.is_map(field):
            _fill_map(getattr(message, field.name), field, seed)
        elif field.message_type is not None:
            below = getattr(message, field.name)
            targets = [below.add() for _ in range(seed.randrange(3))] if field.is_repeated else [below]
            for target in targets:
                if not field.is_repeated:
                    target.SetInParent()
                if field.message_type.full_name == "google.protobuf.Timestamp":
                    target.FromJsonString(seed.choice(TIMES))
                else:
                    _fill(target, schema, f"{path}.", seed)
        elif field.is_repeated:
            getattr(message, field.name).extend(_plain(schema[path], seed) for _ in range(seed.randrange(3)))
        else:
            setattr(message, field.name, _plain(schema[path], seed))


def _fill_map(target: Any, field: Any, seed: random.Random) -> None:
    texts = field.message_type.fields_by_name["value"].type == field.TYPE_STRING
    for key in seed.sample(KEYS, seed.randrange(3)):
        target[key] = seed.choice(TEXTS) if texts else seed.choice(NUMBERS)


def _plain(field: Field, seed: random.Random) -> Any:
    if field.type == "name":
        return seed.choice(["", *names_of(field.pattern)])
    pool: dict[str, list[Any]] = {
        "text": TEXTS,
        "bool": [False, True],
        "int": NUMBERS,
        "enum": [value.number for value in field.descriptor.values] if field.type == "enum" else [],
    }
    return seed.choice(pool[field.type])


# -- filters


def all_paths(sample: Sample) -> list[str]:
    """Every path of the type, with some of its map keys."""
    return list(_paths(sample.message.DESCRIPTOR, ""))


def _paths(descriptor: Any, prefix: str) -> Iterator[str]:
    for field in descriptor.fields:
        path = f"{prefix}{field.name}"
        yield path
        if paths.is_map(field):
            yield from (f"{path}.{key}" for key in ("env", r"app\.example\.com/tier", "none"))
        elif field.message_type is not None and not field.message_type.full_name.startswith("google."):
            yield from _paths(field.message_type, f"{path}.")


def quoted(text: str) -> str:
    """As JSON, but for one character in two written as Go would."""
    escapes = {'"': r"\"", "\\": r"\\", "\n": r"\n", "Ä": r"\xc3\x84", "%": r"\045", "\u2028": r"\u2028"}
    return '"' + "".join(escapes.get(character, character) for character in text) + '"'


def _words(*words: str) -> SearchStrategy[str]:
    return st.sampled_from([spelled for word in words for spelled in (word, word.lower())])


@st.composite
def filters(draw: DrawFn, sample: Sample, *, indexed: bool = False, depth: int = 3) -> str:
    """Any filter that the dialect takes, in any of its spellings; `indexed` paths only, if asked."""
    spaces = st.sampled_from([" ", "  ", "\t", "\r\n", " -- a comment ' \"\n"])

    def condition() -> str:
        field = sample.schema[draw(st.sampled_from(every))]
        return f"{spelled(field.name)} {draw(st.sampled_from(_forms(field)))(draw, field)}"

    def spelled(path: str) -> str:
        style = draw(st.integers(0, 3))
        # The segment behind a map is a key, which is taken as it is.
        at = re.search(r"\b(labels|annotations|shards)\.", path)
        own, key = (path[: at.end()], path[at.end() :]) if at else (path, "")
        if style == 1:
            own = re.sub(r"_([a-z])", lambda match: match[1].upper(), own)
        elif style == 2:
            own = own.replace("_", "-")
        return own + key

    def level(depth: int) -> str:
        kind = draw(st.integers(0, 5 if depth else 1))
        if kind <= 1:
            return condition()
        if kind == 2:
            return f"{draw(_words('NOT'))} {operand(depth - 1)}"
        count = draw(st.integers(2, 3))
        joiner = [" AND ", " + ", " and ", " "] if kind <= 4 else [" OR ", " | "]
        text = operand(depth - 1)
        for _ in range(count - 1):
            text += draw(st.sampled_from(joiner)).replace(" ", draw(spaces)) + operand(depth - 1)
        return text

    def operand(depth: int) -> str:
        inner = level(depth)
        return f"({inner})" if draw(st.booleans()) else inner

    every = [field.name for field in sample.schema.fields] if indexed else all_paths(sample)
    return level(depth)


def value(draw: DrawFn, field: Field) -> str:
    """A literal that fits the field."""
    match field.type:
        case "text":
            return quoted(draw(st.sampled_from(TEXTS)))
        case "name":
            names = names_of(field.pattern)
            return quoted(draw(st.sampled_from([*names, *(_wild(name) for name in names)])))
        case "bool":
            return draw(_words("TRUE", "FALSE"))
        case "int":
            return str(draw(st.sampled_from(NUMBERS)))
        case "timestamp":
            return quoted(draw(st.sampled_from([*TIMES, "1970-01-01T02:00:00+02:00"])))
        case "enum":
            known = draw(st.sampled_from(list(field.descriptor.values)))
            return draw(st.sampled_from([f'"{known.name}"', str(known.number)]))
        case "map":
            return _map(draw, field)
    return _message(draw, field)


def _wild(name: str) -> str:
    return "/".join("-" if index % 2 else part for index, part in enumerate(name.split("/")))


def _map(draw: DrawFn, field: Field) -> str:
    texts = field.descriptor.fields_by_name["value"].type == field.descriptor.fields_by_name["key"].type
    keys = draw(st.lists(st.sampled_from(KEYS), max_size=2, unique=True))
    pool = [quoted(text) for text in TEXTS] if texts else [str(number) for number in NUMBERS]
    colon, comma = draw(st.sampled_from([": ", " ", ":"])), draw(st.sampled_from([", ", " "]))
    return f"{{{comma.join(f'{quoted(key)}{colon}{draw(st.sampled_from(pool))}' for key in keys)}}}"


def _message(draw: DrawFn, field: Field) -> str:
    """Of the first two scalars, which is enough to hit some."""
    scalars = [f for f in field.descriptor.fields if f.message_type is None and not f.is_repeated][-2:]
    found = []
    for inner in draw(st.lists(st.sampled_from(scalars), unique_by=lambda f: f.name)) if scalars else []:
        if inner.enum_type is not None:
            found.append(f'"{inner.name}": "{draw(st.sampled_from(list(inner.enum_type.values))).name}"')
        elif inner.type == inner.TYPE_BOOL:
            found.append(f'"{inner.name}": {draw(_words("TRUE", "NULL"))}')
        elif inner.type == inner.TYPE_STRING:
            found.append(f'"{inner.json_name}": {quoted(draw(st.sampled_from([*TEXTS, "regions/us"])))}')
        else:
            found.append(f'"{inner.name}": {draw(st.sampled_from(NUMBERS))}')
    return f"{{{', '.join(found)}}}"


def _forms(field: Field) -> list[Any]:
    """What may stand behind the field."""
    found = [_is_null, _equal_null]
    single = not field.repeated
    if single:
        found += [_equal, _equal]
    if single and field.type not in ("message", "map"):
        found += [_ordered, _in]
    if field.many or field.type == "map":
        found += [_contains, _contains_list]
    if single and field.type in ("text", "name"):
        found.append(_like)
    return found


def _is_null(draw: DrawFn, field: Field) -> str:
    return f"{draw(_words('IS', 'IS NOT'))} {draw(_words('NULL', 'NAN'))}"


def _equal_null(draw: DrawFn, field: Field) -> str:
    return f"{draw(st.sampled_from(['=', '==', '!=']))} {draw(_words('NULL'))}"


def _equal(draw: DrawFn, field: Field) -> str:
    return f"{draw(st.sampled_from(['=', '==', '!=']))} {value(draw, field)}"


def _ordered(draw: DrawFn, field: Field) -> str:
    return f"{draw(st.sampled_from(['<', '<=', '>', '>=']))} {value(draw, field)}"


def _listed(draw: DrawFn, one: Any) -> str:
    items = ", ".join(one() for _ in range(draw(st.integers(1, 3))))
    return draw(st.sampled_from([f"({items})", f"[{items}]"]))


def _in(draw: DrawFn, field: Field) -> str:
    return f"{draw(_words('IN', 'NOT IN'))} {_listed(draw, lambda: value(draw, field))}"


def _element(draw: DrawFn, field: Field) -> str:
    if field.type != "map" or draw(st.booleans()):
        return value(draw, field)
    key = draw(st.sampled_from([key for key in KEYS if ":" not in key]))
    texts = field.descriptor.fields_by_name["value"].type == field.descriptor.fields_by_name["key"].type
    entry = draw(st.sampled_from(TEXTS if texts else [str(number) for number in NUMBERS]))
    return quoted(draw(st.sampled_from([key, f"{key}:{entry}"])))


def _contains(draw: DrawFn, field: Field) -> str:
    word = draw(_words("CONTAINS", "CONTAIN", "HAS", "HAVE"))
    return f"{word} {draw(_words('VALUE', ''))} {_element(draw, field)}"


def _contains_list(draw: DrawFn, field: Field) -> str:
    word = draw(_words("CONTAINS", "HAS"))
    return f"{word} {draw(_words('ANY', 'ALL'))} {_listed(draw, lambda: _element(draw, field))}"


def _like(draw: DrawFn, field: Field) -> str:
    parts = st.sampled_from(
        ["%", "_", "a", "o", "x", "\ud7ff", "\U0010ffff", "regions/", r"\\", r"\\%", r"\\_", r"\""]
    )
    return f'{draw(_words("LIKE"))} "{"".join(draw(st.lists(parts, max_size=4)))}"'


# -- orders


@st.composite
def orders(draw: DrawFn, sample: Sample) -> str:
    able = [
        path
        for path in all_paths(sample)
        for field in [sample.schema[path]]
        if not field.many and field.type not in ("message", "map")
    ]
    chosen = draw(st.lists(st.sampled_from([*able, "name", *_INDEXED]), max_size=3))
    return ", ".join(f"{path}{draw(st.sampled_from(['', ' asc', ' DESC']))}" for path in chosen)
