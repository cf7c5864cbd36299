"""The search language for people: its labels, what a query says in words, how one is made narrower.

The service alone decides what a query means; nothing here is asked whether one is right.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

CLUSTER_ID: Final = "Cluster ID"
NAMESPACE: Final = "Namespace"
DEPLOYMENT_ID: Final = "Deployment ID"
# The labels by which rows lead to what is inside them, from the outside in.
DRILL: Final = (CLUSTER_ID, NAMESPACE, DEPLOYMENT_ID)


@dataclass(frozen=True, slots=True)
class Label:
    """`kind` is text, id, map or time; `of` what it is looked for in."""

    name: str
    kind: str
    of: str
    example: str


LABELS: Final = (
    Label("Pod Name", "text", "the pod", "Pod Name:web-"),
    Label("Namespace", "text", "the pod", 'Namespace:"prod"'),
    Label("Cluster", "text", "its deployment", "Cluster:east"),
    Label("Deployment", "text", "its deployment", "Deployment:web,api"),
    Label("Deployment Type", "text", "its deployment", 'Deployment Type:"DaemonSet"'),
    Label("Deployment Label", "map", "its deployment", "Deployment Label:app=web"),
    Label("Deployment Annotation", "map", "its deployment", "Deployment Annotation:owner="),
    Label("Pod Label", "map", "its deployment", "Pod Label:tier=!cache"),
    Label("Service Account", "text", "its deployment", "Service Account:!default"),
    Label("Created", "time", "its deployment", "Created:>30d"),
    Label("Container Name", "text", "its instances", "Container Name:r/^side"),
    Label("Container ID", "text", "its instances", "Container ID:3f9a"),
    Label("Container Image Digest", "text", "its live instances", "Container Image Digest:sha256:4c1f"),
    Label("Node", "text", "its instances", "Node:node-07"),
    Label("Pod ID", "id", "the pod", "Pod ID:r/^3f9a"),
    Label(DEPLOYMENT_ID, "id", "the pod", "Deployment ID:-"),
    Label(CLUSTER_ID, "id", "the pod", "Cluster ID:*"),
    Label("Namespace ID", "id", "its deployment", "Namespace ID:*"),
)
EXAMPLES: Final = (
    ("in namespaces that begin so", "Namespace:prod"),
    ("of a deployment, on one node", 'Deployment:"web"+Node:node-07'),
    ("whose deployment has a label", "Deployment Label:app=web"),
    ("by an expression, and not in a namespace", "Pod Name:r/-[0-9]+$+Namespace:!kube-"),
)
_KNOWN: Final = {label.name.lower(): label for label in LABELS}
_PLAIN: Final = re.compile(r"[A-Za-z0-9_-]")


@dataclass(frozen=True, slots=True)
class Pair:
    """One pair of a query, as it was written."""

    label: str
    values: str

    @property
    def known(self) -> Label | None:
        return _KNOWN.get(self.label.lower())

    @property
    def counts(self) -> bool:
        """The service looks at it."""
        return self.known is not None and bool(self.values)

    def __str__(self) -> str:
        return f"{self.label}:{self.values}"


@dataclass(frozen=True, slots=True)
class Ignored:
    """What a query says and nobody looks at. `instead`: a label that may have been meant."""

    text: str
    reason: str
    instead: str = ""


def pairs(text: str) -> list[Pair]:
    """A pair ends at the last `+` before the next colon; nothing between quotes separates."""
    parts = (piece.partition(":") for piece in _pieces(text) if piece.strip())
    return [Pair(label.strip(), values.strip()) for label, _, values in parts]


def _pieces(text: str) -> Iterator[str]:
    start, plus = 0, -1
    for index, character in _unquoted(text):
        if character == "+":
            plus = index
        elif character == ":" and plus >= start:
            yield text[start:plus]
            start = plus + 1
    yield text[start:]


def _values(text: str) -> Iterator[str]:
    start = 0
    for index, character in _unquoted(text):
        if character == ",":
            yield text[start:index]
            start = index + 1
    yield text[start:]


def _unquoted(text: str) -> Iterator[tuple[int, str]]:
    quoted = False
    for index, character in enumerate(text):
        if character == '"':
            quoted = not quoted
        elif not quoted:
            yield index, character


def exactly(value: str) -> str:
    """A value that is this text and no other."""
    if '"' not in value:
        return f'"{value}"'
    # No quote can stand between quotes: spelt out, which ignores case.
    spelt = "".join(c if _PLAIN.fullmatch(c) else f"\\x{{{ord(c):x}}}" for c in value)
    return f"r/^{spelt}$"


def narrowed(text: str, label: str, value: str) -> str:
    """The query with `label` pinned to one value, before all else: what follows may have a quote that
    does not end. An empty id is asked for as such."""
    known = _KNOWN[label.lower()]
    pinned = (value or "-") if known.kind == "id" else exactly(value)
    kept = [pair for pair in pairs(text) if pair.counts and pair.label.lower() != label.lower()]
    drilled = {pair.label.lower(): str(pair) for pair in kept if pair.label in DRILL}
    drilled[label.lower()] = f"{label}:{pinned}"
    first = [drilled[name.lower()] for name in DRILL if name.lower() in drilled]
    return "+".join([*first, *(str(pair) for pair in kept if pair.label not in DRILL)])


def pinned(text: str, label: str) -> str | None:
    """The one value that the query pins `label` to; None when it does not."""
    found = [pair.values for pair in pairs(text) if pair.label == label]
    if not found:
        return None
    value, kind = found[-1], _KNOWN[label.lower()].kind
    if kind == "id":
        return "" if value == "-" else value if re.fullmatch(r"[0-9A-Fa-f-]{36}", value) else None
    quoted = re.fullmatch(r'"([^"]*)"', value)
    return quoted[1] if quoted else None


def without(text: str, labels: Sequence[str]) -> str:
    """The query without the pairs of these labels."""
    return "+".join(str(pair) for pair in pairs(text) if pair.label not in labels)


def ignored(text: str) -> list[Ignored]:
    found = []
    for pair in pairs(text):
        if not pair.values:
            found.append(Ignored(pair.label or ":", "it has no value", _meant(pair.label)))
        elif pair.known is None:
            found.append(Ignored(str(pair), f"there is no label “{pair.label}”", _meant(pair.label)))
    return found


def _meant(label: str) -> str:
    if label.lower() in _KNOWN:
        return ""
    close = difflib.get_close_matches(label.lower(), _KNOWN, n=1, cutoff=0.6)
    return _KNOWN[close[0]].name if close else ""


# --- in words -----------------------------------------------------------------------------------


def sentence(text: str) -> str:
    """What a list of pods shows: `pods whose namespace is “prod”`."""
    said = [_said(pair) for pair in {pair.label: pair for pair in pairs(text)}.values() if pair.counts]
    return f"pods whose {' and '.join(said)}" if said else "all pods"


def _said(pair: Pair) -> str:
    label = pair.known
    assert label is not None
    name = f"{label.name[:-2].lower()}ID" if label.name.endswith(" ID") else label.name.lower()
    return f"{name} {' or '.join(_value(label.kind, value) for value in _values(pair.values))}"


def _value(kind: str, value: str) -> str:
    if value in ("*", "-"):
        return "is set" if value == "*" else "is not set"
    if kind == "map":
        return f"has {value}"
    if kind == "time":
        return f"is {value}"
    negated = value.startswith("!") and len(value) > 1
    rest = value[1:] if negated else value
    if rest.startswith("r/") and len(rest) > 2:
        return f"{'does not match' if negated else 'matches'} {rest[2:]}"
    if kind == "id" or (len(rest) >= 2 and rest[0] == rest[-1] == '"'):
        return f"{'is not' if negated else 'is'} “{rest.strip(chr(34))}”"
    return f"{'does not begin' if negated else 'begins'} with “{rest}”"
