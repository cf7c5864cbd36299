"""google.api.http path templates, and a router that finds the one a request path fits.

    Template = "/" Segments [ ":" verb ]      Segment  = "*" | "**" | literal | Variable
    Segments = Segment { "/" Segment }        Variable = "{" field.path [ "=" Segments ] "}"

Matching is done on the raw, still percent-encoded path: an encoded "/" or ":" inside an id neither
splits a segment nor starts a verb. The text after the last ":" of the last segment is the verb, so
the rest of that segment holds no ":".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Generic, TypeVar
from urllib.parse import unquote_to_bytes

T = TypeVar("T")
STAR: Final = "*"
DEEP: Final = "**"
ANY_VERB: Final = "*"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")
_LITERAL = re.compile(r"[^*{}:/?#%\s]+")
_BROKEN_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


@dataclass(frozen=True, slots=True)
class Variable:
    """Segments [start, end) of the path belong to `field`; end None means all that follow."""

    field: str
    start: int
    end: int | None
    # Exactly one segment.
    single: bool

    def text(self, parts: list[str]) -> str:
        """The decoded value in a path's raw segments. Raises ValueError when it cannot be decoded."""
        if self.single:
            return decode(parts[self.start])
        # Of several segments an encoded "/" stays encoded, as google.api.http says.
        own = (part.replace("%2F", "%252F").replace("%2f", "%252f") for part in parts[self.start : self.end])
        return "/".join(map(decode, own))


@dataclass(frozen=True, slots=True)
class Template:
    """A parsed template. `segments` holds literals, "*" and, at the end only, "**"."""

    text: str
    segments: tuple[str, ...]
    verb: str
    variables: tuple[Variable, ...]

    @property
    def prefix(self) -> tuple[str, ...]:
        """The literal segments before the first wildcard."""
        for index, segment in enumerate(self.segments):
            if segment in (STAR, DEEP):
                return self.segments[:index]
        return self.segments


def parse(text: str) -> Template:
    """Raises ValueError naming what is wrong with the template."""
    if not text.startswith("/"):
        raise ValueError(f"{text!r} does not start with '/'")
    body, verb = _split_verb(text)
    segments: list[str] = []
    variables: list[Variable] = []
    for piece in _pieces(body[1:], text):
        if not piece.startswith("{"):
            segments.append(_segment(piece, text))
            continue
        field, equals, pattern = piece[1:-1].partition("=")
        if not _NAME.fullmatch(field):
            raise ValueError(f"{text!r}: {field!r} is not a field path")
        start = len(segments)
        segments.extend(_segment(part, text) for part in (pattern if equals else STAR).split("/"))
        end = None if segments[-1] == DEEP else len(segments)
        variables.append(Variable(field, start, end, single=end == start + 1))
    if DEEP in segments[:-1]:
        raise ValueError(f"{text!r}: '**' must be the last segment")
    if len({variable.field for variable in variables}) != len(variables):
        raise ValueError(f"{text!r} binds a field twice")
    return Template(text, tuple(segments), verb, tuple(variables))


def _split_verb(text: str) -> tuple[str, str]:
    slash = max(text.rfind("/"), text.rfind("}"))
    colon = text.find(":", slash)
    if colon < 0:
        return text, ""
    verb = text[colon + 1 :]
    if not _LITERAL.fullmatch(verb):
        raise ValueError(f"{text!r}: {verb!r} is not a verb")
    return text[:colon], verb


def _pieces(body: str, text: str) -> Iterator[str]:
    """`body` cut at the slashes that are outside braces."""
    start, depth = 0, 0
    for index, char in enumerate(body):
        depth += (char == "{") - (char == "}")
        if depth not in (0, 1):
            raise ValueError(f"{text!r}: braces do not match")
        if char == "/" and depth == 0:
            yield body[start:index]
            start = index + 1
    if depth:
        raise ValueError(f"{text!r}: braces do not match")
    yield body[start:]


def _segment(piece: str, text: str) -> str:
    if piece in (STAR, DEEP) or _LITERAL.fullmatch(piece):
        return piece
    raise ValueError(f"{text!r}: {piece!r} is not a segment")


def decode(raw: str) -> str:
    """Percent-decodes once. Raises ValueError for a broken escape or bytes that are not UTF-8."""
    if "%" not in raw and raw.isascii():
        return raw
    if _BROKEN_ESCAPE.search(raw):
        raise ValueError("has a '%' that does not start an escape; write %25")
    # Bytes of the request line that are not UTF-8 arrive as lone surrogates.
    data = unquote_to_bytes(raw.encode("utf-8", "surrogateescape"))
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8 after percent-decoding") from None


# Not frozen: one is made for every request, and frozen ones take three times as long to make.
@dataclass(slots=True)
class Found(Generic[T]):
    """Where a path leads. `parts` are the raw segments, without the verb, for the variables of `template`."""

    target: T
    template: Template
    parts: list[str]


@dataclass(frozen=True, slots=True)
class Missed:
    """No route. `allowed` are the verbs that the path does take: none means an unknown path."""

    allowed: tuple[str, ...]


class _Node(Generic[T]):
    """One segment deep in the tree of templates with the same verb."""

    __slots__ = ("deep", "literals", "star", "targets")

    def __init__(self) -> None:
        self.literals: dict[str, _Node[T]] = {}
        self.star: _Node[T] | None = None
        self.deep: dict[str, tuple[T, Template]] = {}
        self.targets: dict[str, tuple[T, Template]] = {}

    def find(self, verb: str, parts: list[str], at: int) -> tuple[T, Template] | None:
        """The first of `leaves` that has the verb."""
        hit = None
        if at < len(parts):
            part = parts[at]
            literal = self.literals.get(part)
            if literal is not None:
                hit = literal.find(verb, parts, at + 1)
            if hit is None and self.star is not None and part:
                hit = self.star.find(verb, parts, at + 1)
        else:
            hit = self.targets.get(verb) or self.targets.get(ANY_VERB)
        return hit or self.deep.get(verb) or self.deep.get(ANY_VERB)

    def leaves(self, parts: list[str], at: int = 0) -> Iterator[dict[str, tuple[T, Template]]]:
        """The targets that fit, by HTTP verb: literals before wildcards, at each segment."""
        if at < len(parts):
            part = parts[at]
            literal = self.literals.get(part)
            if literal is not None:
                yield from literal.leaves(parts, at + 1)
            if self.star is not None and part:
                yield from self.star.leaves(parts, at + 1)
        elif self.targets:
            yield self.targets
        if self.deep:
            yield self.deep


class Router(Generic[T]):
    """Finds the target of (HTTP verb, raw path) in time that grows with the path, not with the
    number of routes."""

    def __init__(self) -> None:
        self._trees: dict[str, _Node[T]] = {}
        self._static: dict[str, Mapping[str, tuple[T, Template]]] = {}

    def add(self, verb: str, path: str, target: T) -> Template:
        """Raises ValueError for a broken template and for a second route of the same shape and verb."""
        template = parse(path)
        node = self._trees.setdefault(template.verb, _Node())
        for segment in template.segments:
            if segment == DEEP:
                break
            if segment == STAR:
                node.star = node.star or _Node()
                node = node.star
            else:
                node = node.literals.setdefault(segment, _Node())
        targets = node.deep if template.segments[-1] == DEEP else node.targets
        if verb in targets:
            raise ValueError(f"{verb} {path} and {targets[verb][1].text} are the same route")
        targets[verb] = (target, template)
        if not template.variables and STAR not in template.segments and DEEP not in template.segments:
            self._static[path] = targets
        return template

    def match(self, verb: str, raw_path: str) -> Found[T] | Missed:
        """`raw_path` is as the client sent it, without the query."""
        static = self._static.get(raw_path)
        if static is not None and verb in static:
            target, template = static[verb]
            return Found(target, template, [])
        if not raw_path.startswith("/"):
            return Missed(())
        parts = raw_path[1:].split("/")
        parts[-1], colon, custom = parts[-1].partition(":")
        tree = self._trees.get(custom)
        # No verb after the colon; a second colon makes a verb that no template has.
        if tree is None or (colon and not custom):
            return Missed(())
        hit = tree.find(verb, parts, 0)
        if hit is not None:
            return Found(hit[0], hit[1], parts)
        allowed: dict[str, None] = {}
        for targets in tree.leaves(parts):
            allowed.update(dict.fromkeys(targets))
        return Missed(tuple(allowed))
