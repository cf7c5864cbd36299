"""How regions are connected: as a matrix, and as a picture in a plane of its own units.

A picture is points and paths only: the template draws them, the style sheet colours them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from admin_ui.catalogue import short
from admin_ui.presenters.catalogue import Thing

# Regions that one picture and one matrix hold.
MOST: Final = 40
# Shades of a score, the lowest first.
SHADES: Final = 5
DOT: Final = 7.0
_CHARACTER: Final = 7.4
_LINE: Final = 24.0


@dataclass(frozen=True, slots=True)
class Link:
    """A score that `source` gives the way to `target`, both by name."""

    source: str
    target: str
    score: int


@dataclass(frozen=True, slots=True)
class Cell:
    """`score` None: there is no link. `shade` 1 to SHADES; 0 for none."""

    target: str
    score: int | None
    shade: int
    own: bool


@dataclass(frozen=True, slots=True)
class Matrix:
    """Rows are where a link begins, columns where it leads."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]


@dataclass(frozen=True, slots=True)
class Node:
    """`own`: the region that the picture is about. `anchor`: of the text, as SVG spells it."""

    name: str
    id: str
    title: str
    x: float
    y: float
    text_x: float
    text_y: float
    anchor: str
    own: bool
    default: bool


@dataclass(frozen=True, slots=True)
class Edge:
    """`path`: SVG path data. (x, y): where its score stands."""

    source: str
    target: str
    score: int
    shade: int
    path: str
    x: float
    y: float


@dataclass(frozen=True, slots=True)
class Picture:
    width: float
    height: float
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    # Whether there is room for the scores.
    labelled: bool


def links(regions: Iterable[Thing]) -> list[Link]:
    return [
        Link(region.name, entry.dest, entry.score)
        for region in regions
        for entry in region.fields.connectivity_scores
    ]


def shades(found: Iterable[Link]) -> Mapping[int, int]:
    """Score -> shade, from the least score to the greatest that there are."""
    scores = sorted({link.score for link in found})
    if len(scores) < 2:
        return dict.fromkeys(scores, (SHADES + 1) // 2)
    least, span = scores[0], scores[-1] - scores[0]
    return {score: 1 + round((SHADES - 1) * (score - least) / span) for score in scores}


def ordered(regions: Iterable[Thing]) -> list[Thing]:
    """Neighbours on the ground stand beside each other."""
    return sorted(regions, key=lambda region: (*region.place, *[""] * (4 - len(region.place)), region.name))


def matrix(regions: Sequence[Thing]) -> Matrix:
    """Of links between `regions`; those to others are left out."""
    found = links(regions)
    shade = shades(found)
    scores = {(link.source, link.target): link.score for link in found}
    names = tuple(region.name for region in regions)

    def cell(source: str, target: str) -> Cell:
        score = scores.get((source, target))
        return Cell(target, score, 0 if score is None else shade[score], source == target)

    return Matrix(names, tuple((source, tuple(cell(source, target) for target in names)) for source in names))


def network(regions: Sequence[Thing]) -> Picture:
    """All regions on a circle."""
    radius = max(120.0, len(regions) * 11.0)
    return _round(
        [(region.name, region.title, region.fields.is_default) for region in regions], links(regions), radius
    )


def neighbourhood(region: Thing, coming: Sequence[Thing]) -> Picture:
    """One region in the middle of those that it has a score for or that have one for it (`coming`)."""
    found = links([region]) + [link for link in links(coming) if link.target == region.name]
    found = [link for link in found if link.source != link.target]
    known = {other.name: other for other in coming}
    names = list(dict.fromkeys([*(link.target for link in found), *(link.source for link in found)]))
    around = sorted(name for name in names if name != region.name)[:MOST]
    ring = []
    for name in around:
        other = known.get(name)
        ring.append((name, other.title if other else short(name), bool(other and other.fields.is_default)))
    middle = (region.name, region.title, region.fields.is_default)
    return _round(ring, found, max(112.0, len(ring) * 14.0), middle=middle)


_Point = tuple[float, float]
_Member = tuple[str, str, bool]


def _round(
    ring: Sequence[_Member], found: Sequence[Link], radius: float, *, middle: _Member | None = None
) -> Picture:
    margin = max((len(short(name)) for name, _, _ in ring), default=0) * _CHARACTER + 3 * DOT
    width, height = 2 * (radius + margin), 2 * (radius + _LINE + DOT)
    centre = (width / 2, height / 2)
    places: dict[str, _Point] = {}
    nodes = []
    for index, (name, title, default) in enumerate(ring):
        # The first one at the top, or left and right of the middle when there are two.
        angle = 2 * math.pi * index / len(ring) - (math.pi / 2 if len(ring) > 2 else 0)
        places[name] = _along(centre, angle, radius)
        nodes.append(_node((name, title, default), places[name], angle))
    if middle is not None:
        places[middle[0]] = centre
        nodes.append(_node(middle, centre, None))
    shade = shades(found)
    labelled = middle is not None and len(ring) <= 12
    pairs = {(link.source, link.target) for link in found}
    edges = tuple(
        _edge(
            link,
            places,
            # Two ways between the same regions bow away from each other.
            bow=0.16 if middle is None else 0.26 if (link.target, link.source) in pairs else 0.0,
            shade=shade[link.score],
        )
        for link in sorted(found, key=lambda link: link.score)
        if link.source in places and link.target in places and link.source != link.target
    )
    return Picture(round(width, 1), round(height, 1), tuple(nodes), edges, labelled)


def _along(origin: _Point, angle: float, length: float) -> _Point:
    return origin[0] + math.cos(angle) * length, origin[1] + math.sin(angle) * length


def _node(member: _Member, place: _Point, angle: float | None) -> Node:
    """`angle` None: in the middle, its text below it."""
    name, title, default = member
    anchor, text = "middle", (place[0], place[1] + DOT + 18)
    if angle is not None:
        text = _along(place, angle, DOT + 8)
        across, down = math.cos(angle), math.sin(angle)
        if abs(across) > 0.15:
            anchor = "start" if across > 0 else "end"
            text = (text[0], text[1] + 4 + 3 * down)
        else:
            text = (text[0], text[1] + (12 if down > 0 else -1))
    return Node(name, short(name), title, *_rounded(place), *_rounded(text), anchor, angle is None, default)


def _edge(link: Link, places: Mapping[str, _Point], *, bow: float, shade: int) -> Edge:
    """A curve that bows to its right, from the rim of one dot to the rim of the other."""
    (x1, y1), (x2, y2) = places[link.source], places[link.target]
    # On the plane's grid x grows to the right and y downwards, so (dy, -dx) is to the left.
    control = ((x1 + x2) / 2 - (y2 - y1) * bow, (y1 + y2) / 2 + (x2 - x1) * bow)
    start = _towards((x1, y1), control, DOT + 2)
    end = _towards((x2, y2), control, DOT + 4)
    middle = (
        (start[0] + 2 * control[0] + end[0]) / 4,
        (start[1] + 2 * control[1] + end[1]) / 4,
    )
    a, b, c = (f"{x:g} {y:g}" for x, y in map(_rounded, (start, control, end)))
    return Edge(link.source, link.target, link.score, shade, f"M{a}Q{b} {c}", *_rounded(middle))


def _towards(origin: _Point, target: _Point, length: float) -> _Point:
    return _along(origin, math.atan2(target[1] - origin[1], target[0] - origin[0]), length)


def _rounded(point: _Point) -> _Point:
    return round(point[0], 1), round(point[1], 1)
