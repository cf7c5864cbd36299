"""How regions are connected: the page over real sockets, and the geometry of its pictures."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from admin_ui.catalogue import REGION
from admin_ui.presenters import connectivity
from admin_ui.presenters.catalogue import thing
from shared.pb.edgelq_sdk.meta.proto.v1alpha2 import region_pb2
from tests.console.catalogue import REGIONS
from tests.console.harness import Console
from tests.console.test_catalogue import caret, filtered


@pytest.fixture
async def operator(catalogue: Console) -> Console:
    await catalogue.sign_in("operator")
    return catalogue


async def test_the_matrix_says_what_the_regions_say(operator: Console):
    page = await operator.get("/regions/-/connectivity")
    titles = {e.attrs["title"] for e in page.dom.find("td") if "title" in e.attrs}
    assert len(titles) == 64
    for source, (_, _, _, scores) in REGIONS.items():
        for target in REGIONS:
            score = scores.get(target, "no score")
            assert f"{source} → {target}: {score}" in titles


async def test_the_picture_has_a_dot_a_region_and_an_arrow_a_score(operator: Console):
    page = await operator.get("/regions/-/connectivity")
    nodes = [e.attrs["href"] for e in page.dom.find("a") if e.attrs.get("class", "").startswith("node")]
    assert sorted(nodes) == sorted(f"/regions/{id}" for id in REGIONS)
    edges = [e for e in page.dom.find("path") if e.attrs.get("class", "").startswith("edge")]
    assert len(edges) == sum(len(scores) for _, _, _, scores in REGIONS.values())
    # Everything lies inside the picture.
    [svg] = [e for e in page.dom.find("svg") if e.attrs.get("class") == "network"]
    _, _, width, height = map(float, svg.attrs["viewbox"].split())
    for circle in page.dom.find("circle"):
        if any(parent.attrs.get("class", "").startswith("node") for parent in circle.inside):
            assert 0 < float(circle.attrs["cx"]) < width and 0 < float(circle.attrs["cy"]) < height


async def test_connectivity_follows_the_filter_and_counts_what_leads_outside(operator: Console):
    page = await operator.get(filtered("/regions/-/connectivity", 'location.continent = "Europe"'))
    assert len([e for e in page.dom.find("td") if "title" in e.attrs]) == 16
    assert "2 links to regions that are not shown" in page.words
    wrong = await operator.get(filtered("/regions/-/connectivity", "nope = 1"))
    assert wrong.status == 400 and caret(wrong) == ("nope = 1", "nope = 1")
    assert wrong.dom.find("form", role="search")[0].attrs["action"] == "/regions/-/connectivity"


def region(id: str, **scores: int):
    message = region_pb2.Region(name=f"regions/{id}", title=id.upper())
    for target, score in scores.items():
        message.connectivity_scores.add(dest=f"regions/{target}", score=score)
    return thing(REGION, message)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 40), st.data())
def test_a_picture_holds_every_region_apart_and_inside(count: int, data):
    ids = [f"r{number}" for number in range(count)]
    scores = st.dictionaries(st.sampled_from(ids), st.integers(-(2**31), 2**31 - 1)) if ids else st.just({})
    picture = connectivity.network([region(id, **data.draw(scores)) for id in ids])
    places = [(node.x, node.y) for node in picture.nodes]
    assert len(places) == count
    for index, one in enumerate(places):
        assert 0 < one[0] < picture.width and 0 < one[1] < picture.height
        for other in places[index + 1 :]:
            assert math.dist(one, other) > 2 * connectivity.DOT
    for edge in picture.edges:
        assert edge.source != edge.target and 1 <= edge.shade <= connectivity.SHADES
        assert re.fullmatch(r"M[-\d.]+ [-\d.]+Q[-\d.]+ [-\d.]+ [-\d.]+ [-\d.]+", edge.path)


def test_a_neighbourhood_has_its_region_in_the_middle_and_both_directions():
    own = region("a", b=1, c=5, a=9)
    picture = connectivity.neighbourhood(own, [region("c", a=3, d=8), region("d", a=7)])
    assert {(edge.source[8:], edge.target[8:], edge.score) for edge in picture.edges} == {
        ("a", "b", 1), ("a", "c", 5), ("c", "a", 3), ("d", "a", 7),
    }  # fmt: skip
    [middle] = [node for node in picture.nodes if node.own]
    assert (middle.x, middle.y) == (picture.width / 2, picture.height / 2)
    assert not connectivity.neighbourhood(region("a"), []).edges


def test_shades_go_from_the_least_to_the_greatest():
    links = [connectivity.Link("a", "b", score) for score in (-5, 0, 95)]
    shade = connectivity.shades(links)
    assert (shade[-5], shade[95]) == (1, connectivity.SHADES)
    assert set(connectivity.shades(links[:1]).values()) == {3}
    assert connectivity.shades([]) == {}
