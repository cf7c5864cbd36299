"""Leases: asked for, watched, extended, handed over and released, one and many."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest

from tests.console.harness import Console, Page
from tests.console.lab import LabClient, fill

HERE = "/namespaces/default/leases"
FORM = {"namespace": "default", "selector": "board=rpi4", "duration": "1h", "start": "now"}


def hidden(page: Page) -> dict[str, list[str]]:
    """The hidden fields of the page's form."""
    found: dict[str, list[str]] = {}
    for element in page.dom.find("input", type="hidden"):
        found.setdefault(element.attrs["name"], []).append(element.attrs["value"])
    return found


# --- ask for one --------------------------------------------------------------------------------


async def test_a_free_exporter_is_had_at_once(bench: Console, lab: LabClient):
    await lab.exporter("bench-1", board="rpi4")
    page = await bench.get("/exporters")
    form = await bench.get(page.dom.link("Lease bench-1"))
    assert form.dom.find("input", id="exporter")[0].attrs["value"] == "bench-1"
    typed = {**FORM, "selector": "", "exporter": "bench-1", "tags": "build=7\nbranch=main", "custom": "90m"}
    page = await bench.post("/leases", {**typed, "lease_id": "mine"})
    assert page.url == f"{HERE}/mine" and "operator has bench-1 now." in page.words
    found = await lab.lease_of("mine")
    assert found.client.endswith("/clients/operator") and found.exporter.endswith("/bench-1")
    assert found.duration.seconds == 5400 and dict(found.tags) == {"build": "7", "branch": "main"}
    assert "operator has bench-1 1 h 29 min left" in page.words
    assert "jmp shell --lease mine" in page.words


async def test_one_that_must_wait_says_why_and_where_it_stands(bench: Console, lab: LabClient):
    await fill(lab)
    page = await bench.post("/leases", FORM)
    assert "The lease is asked for. It waits for an exporter." in page.words
    assert "It waits for an exporter, at place 3 of 3" in page.words
    assert "2 exporters match: 2 leased (for example rpi4-1)" in page.words
    assert "Pending : NotAvailable" in page.words
    # Nobody will ever have one of these.
    page = await bench.get(f"{HERE}/impossible")
    assert "Impossible" in page.words and "There is no exporter nothing" in page.words
    again = await bench.get(page.dom.link("Ask again"))
    assert again.dom.find("input", id="exporter")[0].attrs["value"] == "nothing"


async def test_one_for_later_counts_from_the_persons_own_clock(bench: Console, lab: LabClient):
    await lab.exporter("bench-1", board="rpi4")
    await bench.post("/preferences", {"zone": "Asia/Tokyo"})
    begin = datetime(2038, 3, 1, 9, 30)
    page = await bench.post(
        "/leases", {**FORM, "lease_id": "later", "start": "later", "begin": begin.isoformat()}
    )
    assert "Scheduled" in page.words and "2038-03-01 09:30:00 JST" in page.words
    found = await lab.lease_of("later")
    assert found.begin_time.ToDatetime(tzinfo=UTC) == datetime(2038, 3, 1, 0, 30, tzinfo=UTC)
    assert not found.exporter


async def test_one_for_another_client_is_that_clients(bench: Console, lab: LabClient):
    await lab.new_client("ci")
    await lab.exporter("bench-1", board="rpi4")
    page = await bench.get("/leases/-/new?namespace=default")
    assert '<option value="ci">' in page.text
    page = await bench.post("/leases", {**FORM, "client": "ci", "lease_id": "its"})
    assert (await lab.lease_of("its")).client.endswith("/clients/ci")
    assert "ci has bench-1 now." in page.words


@pytest.mark.parametrize(
    "typed,field,says",
    [
        ({"selector": ""}, "selector", "name one exporter"),
        ({"selector": "board in ("}, "selector", "at position"),
        ({"selector": "ram>4"}, "selector", "cannot have"),
        ({"custom": "soon"}, "custom", "“soon” is no duration"),
        ({"custom": "0m"}, "custom", "longer than nothing"),
        ({"start": "later"}, "begin", "is no date and time"),
        ({"start": "later", "begin": "tomorrow"}, "begin", "is no date and time"),
        ({"tags": "build"}, "tags", "is not key=value"),
        ({"tags": "a/b=c"}, "tags", "a/b"),
        ({"exporter": "Not A Name"}, "exporter", "DNS-1123"),
        ({"client": "Not A Name"}, "client", "DNS-1123"),
        ({"lease_id": "Not A Name"}, "lease_id", "DNS-1123"),
        ({"lease_id": "taken"}, "lease_id", "exists"),
    ],
)
async def test_what_is_wrong_stands_under_its_field_and_nothing_typed_is_lost(
    bench: Console, lab: LabClient, typed: dict[str, str], field: str, says: str
):
    await lab.new_client("ann")
    await lab.lease("ann", "board=x", id="taken")
    given = {**FORM, "tags": "k=v", "lease_id": "kept", **typed}
    page = await bench.post("/leases", given)
    assert page.status in (400, 409)
    assert field in [e.attrs["name"] for e in page.elements_with_error()]
    assert says in page.words
    values = {e.attrs["name"]: e.attrs.get("value", "") for e in page.dom.find("input")}
    assert values["lease_id"] == given["lease_id"] and values["selector"] == given["selector"]
    assert given["tags"] in page.text


# --- the list -----------------------------------------------------------------------------------


async def test_the_list_is_of_everyone_or_mine_active_or_all(bench: Console, lab: LabClient):
    await fill(lab)
    await bench.post("/leases", {**FORM, "selector": "board=imx8", "lease_id": "mine"})
    page = await bench.get("/leases")
    assert page.rows() == ["mine", "imx8-later", "jetson-a", "rpi4-c", "rpi4-b", "rpi4-a"]
    mine = await bench.get(page.dom.link("Mine"))
    assert mine.rows() == ["mine"] and "Your own active leases in default." in mine.words
    everything = await bench.get(page.dom.link("All"))
    assert everything.rows()[:2] == ["mine", "impossible"] and "imx8-old" in everything.rows()
    assert (await bench.get("/leases?client=bob&show=all")).rows() == ["impossible", "rpi4-c", "rpi4-b"]
    assert (await bench.get("/leases?exporter=imx8-1&show=all")).rows() == ["mine", "imx8-old"]
    assert (await bench.get("/leases?filter=board%3Drpi4&order_by=name+asc")).rows() == [
        "rpi4-a", "rpi4-b", "rpi4-c",
    ]  # fmt: skip
    tagged = await bench.get("/leases?tags=build+in+(1233,1234)&show=all")
    assert tagged.rows() == ["imx8-old", "rpi4-a"]
    assert "Leases in default tagged build in (1233,1234)." in tagged.words
    # A tag leads to all that have it, ended or not.
    assert (await bench.get(page.dom.link("1234"))).rows() == ["rpi4-a"]


async def test_the_list_in_pages(bench: Console, lab: LabClient):
    await lab.new_client("ann")
    await lab.absent("bench", board="x")
    for number in range(12):
        await lab.lease("ann", "board=x", id=f"lease-{number:02}")
    page = await bench.get("/leases?page_size=10&order_by=name+asc")
    assert len(page.rows()) == 10 and "1–10 of 12" in page.words
    page = await bench.get(page.dom.find("a", rel="next")[0].attrs["href"])
    assert page.rows() == ["lease-10", "lease-11"]
    page = await bench.get(page.dom.find("a", rel="prev")[0].attrs["href"])
    assert page.rows()[0] == "lease-00"


@pytest.mark.parametrize(
    "query,field,says",
    [
        ("filter=board+in+(", "filter", "board in ( ^ at position 10"),
        ("tags=%3D", "tags", "at position 0"),
        ("client=A+B", "client", "DNS-1123"),
    ],
)
async def test_a_wrong_question_is_explained_under_its_box(
    bench: Console, lab: LabClient, query: str, field: str, says: str
):
    page = await bench.get(f"/leases?{query}")
    assert page.status == 400 and says in page.words
    assert [e.attrs["name"] for e in page.elements_with_error()] == [field]


# --- change one ---------------------------------------------------------------------------------


async def test_it_is_extended_and_shortened_from_what_it_is_now(bench: Console, lab: LabClient):
    await fill(lab)
    page = await bench.post(f"{HERE}/rpi4-a/extend", {"by": "1h"})
    assert "Extended by 1 h, to 1 h 29 min in all." in page.words
    page = await bench.post(f"{HERE}/rpi4-a/extend", {"custom": "45 min", "shorten": "on"})
    assert "Shortened by 45 min, to 44 min in all." in page.words
    assert (await lab.lease_of("rpi4-a")).duration.seconds == 44 * 60
    # Of one with a fixed begin the end moves along.
    await bench.post(f"{HERE}/imx8-later/extend", {"by": "1h"})
    assert (await lab.lease_of("imx8-later")).duration.seconds == 4 * 3600
    # The person who did it is named, not the client.
    page = await bench.get(f"{HERE}/rpi4-a/history")
    assert "Changed by operator via gRPC" in page.words


@pytest.mark.parametrize(
    "data,says",
    [
        ({"custom": "much"}, "“much” is no duration"),
        ({"custom": ""}, "say how long"),
        ({"custom": "9h", "shorten": "on"}, "duration must be positive"),
    ],
)
async def test_an_extension_that_makes_no_sense_is_told(
    bench: Console, lab: LabClient, data: dict[str, str], says: str
):
    await fill(lab)
    page = await bench.post(f"{HERE}/rpi4-a/extend", data)
    assert page.url == f"{HERE}/rpi4-a" and says in page.words
    assert (await lab.lease_of("rpi4-a")).duration.seconds == 1740


async def test_it_is_handed_over(bench: Console, lab: LabClient):
    await fill(lab)
    page = await bench.post(f"{HERE}/rpi4-a/transfer", {"client": "bob"})
    assert "Handed over to bob." in page.words and "bob has rpi4-1" in page.words
    for client, says in (("nobody", "not found"), ("", "Say to which client."), ("A B", "DNS-1123")):
        page = await bench.post(f"{HERE}/rpi4-a/transfer", {"client": client})
        assert says in page.words
    assert (await lab.lease_of("rpi4-a")).client.endswith("/bob")
    # One without an exporter cannot be.
    page = await bench.post(f"{HERE}/rpi4-c/transfer", {"client": "ann"})
    assert "has no exporter yet" in page.words


async def test_release_asks_and_names_it(bench: Console, lab: LabClient):
    await fill(lab)
    asked = await bench.get(f"{HERE}/rpi4-a/release?return_to=/leases?namespace%3Ddefault")
    assert "Release rpi4-1 of ann?" in asked.words and "goes to whoever waits longest" in asked.words
    assert (await lab.lease_of("rpi4-a")).ended is False
    page = await bench.post(f"{HERE}/rpi4-a/release", {"return_to": hidden(asked)["return_to"][0]})
    assert page.url == "/leases?namespace=default" and "Released rpi4-a." in page.words
    assert (await lab.lease_of("rpi4-a")).ended
    page = await bench.post(f"{HERE}/rpi4-a/release")
    assert "rpi4-a had ended already." in page.words
    ended = await bench.get(f"{HERE}/rpi4-a")
    assert "ann had rpi4-1 for" in ended.words and "Extend" not in ended.words
    assert "It has ended already" in (await bench.get(f"{HERE}/rpi4-a/release")).words
    waiting = await bench.get(f"{HERE}/jetson-a/release")
    assert "Release the lease of ann?" in waiting.words and "gives up its place in the queue" in waiting.words


async def test_an_ended_lease_cannot_be_changed(bench: Console, lab: LabClient):
    await fill(lab)
    page = await bench.post(f"{HERE}/imx8-old/extend", {"by": "1h"})
    assert "has ended: its times cannot be changed any more" in page.words


# --- release many -------------------------------------------------------------------------------


async def test_many_are_released_after_a_page_that_names_each(bench: Console, lab: LabClient):
    await fill(lab)
    ids = [f"{HERE[1:]}/{id}" for id in ("rpi4-a", "jetson-a")]
    back = "/leases?namespace=default"
    asked = await bench.post("/leases/-/release", {"id": ids, "return_to": back})
    assert "Release 2 leases?" in asked.words
    assert re.search(r"rpi4-a ann on rpi4-1, 2[89] min \d+ s left jetson-a ann, waiting", asked.words)
    assert not (await lab.lease_of("rpi4-a")).ended
    page = await bench.post("/leases/-/release", hidden(asked))
    assert page.url == back and "Released 2 leases." in page.words
    assert page.rows() == ["imx8-later", "rpi4-c", "rpi4-b"]


async def test_one_that_fails_is_named_beside_those_that_did_not(bench: Console, lab: LabClient):
    await fill(lab)
    ids = [f"{HERE[1:]}/{id}" for id in ("rpi4-a", "imx8-old", "rpi4-b")]
    page = await bench.post("/leases/-/release", {"id": ids, "confirmed": "yes"})
    assert page.url.startswith("/operations/") and "Released 2 of 3 leases" in page.words
    assert "imx8-old Failed" in page.words and "is released already" in page.words
    assert page.dom.link("imx8-old") == f"{HERE}/imx8-old"


async def test_all_that_match_are_released_on_every_page(bench: Console, lab: LabClient):
    await fill(lab)
    await lab.absent("bench", board="x")
    for number in range(12):
        await lab.lease("bob", "board=x", id=f"bulk-{number:02}", tags={"run": "9"})
    back = "/leases?namespace=default&tags=run%3D9&page_size=10"
    page = await bench.get(back)
    assert "all 12 that match" in page.words
    asked = await bench.post("/leases/-/release", {"scope": "all", "return_to": back})
    assert "Release 12 leases?" in asked.words and "active leases in default tagged run=9" in asked.words
    page = await bench.post("/leases/-/release", hidden(asked))
    assert "Released 12 leases." in page.words and page.rows() == []
    assert "rpi4-a" in (await bench.get("/leases")).rows()


# --- times --------------------------------------------------------------------------------------


async def test_the_end_that_is_shown_is_the_one_that_the_service_keeps(bench: Console, lab: LabClient):
    await fill(lab)
    page = await bench.get(f"{HERE}/rpi4-a")
    [left] = [e for e in page.dom.find("time") if "data-left" in e.attrs]
    found = await lab.lease_of("rpi4-a")
    until = found.effective_begin_time.ToDatetime(tzinfo=UTC) + timedelta(seconds=1740)
    assert datetime.fromisoformat(left.attrs["datetime"]) == until.replace(microsecond=0)
