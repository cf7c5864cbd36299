"""Queries that are asked again are read from memory, and nobody notices."""

from __future__ import annotations

import pytest

from shared.errors import InvalidArgument
from shared.pb.backend.api.v2beta1.experiment_pb2 import ListExperimentsRequest
from shared.rest.path_template import Found, Router
from shared.rest.style import GOOGLE
from shared.rest.transcode import Transcoder
from shared.rpc.method import HttpRule

PATH = "/things"


@pytest.fixture
def transcoder() -> Transcoder:
    template = Router[None]().add("GET", PATH, None)
    return Transcoder(ListExperimentsRequest, HttpRule("GET", PATH), template, GOOGLE)


@pytest.fixture
def found() -> Found[None]:
    router = Router[None]()
    router.add("GET", PATH, None)
    hit = router.match("GET", PATH)
    assert isinstance(hit, Found)
    return hit


def test_each_caller_has_a_message_of_its_own(transcoder: Transcoder, found: Found[None]) -> None:
    first = transcoder.read(found, "page_size=5&namespace=a%20b", b"")
    again = transcoder.read(found, "page_size=5&namespace=a%20b", b"")
    assert first == again == ListExperimentsRequest(page_size=5, namespace="a b")
    again.ClearField("page_size")
    assert transcoder.read(found, "page_size=5&namespace=a%20b", b"") == first


def test_a_body_is_read_beside_a_query_that_was_asked_before(
    transcoder: Transcoder, found: Found[None]
) -> None:
    transcoder.read(found, "page_size=5", b"")
    wanted = ListExperimentsRequest(page_size=5, namespace="x")
    assert transcoder.read(found, "page_size=5", b'{"namespace": "x"}') == wanted
    assert transcoder.read(found, "page_size=5", b"") == ListExperimentsRequest(page_size=5)


def test_many_different_ones_all_stay_right(transcoder: Transcoder, found: Found[None]) -> None:
    for _ in range(2):
        for size in range(1000):
            assert transcoder.read(found, f"page_size={size}", b"").page_size == size  # type: ignore[attr-defined]


def test_what_is_wrong_is_refused_each_time(transcoder: Transcoder, found: Found[None]) -> None:
    for _ in range(3):
        with pytest.raises(InvalidArgument, match="page_size"):
            transcoder.read(found, "page_size=many", b"")
