"""The availability board, one exporter's page, and what is done to exporters."""

from __future__ import annotations

import re

import pytest

from shared.pb.jumpstarter.v1 import common_pb2
from shared.pb.roundhouse.lab.v1 import lab_pb2
from shared.rpc.client import CallFailed
from tests.console.harness import Console, Page
from tests.console.lab import LabClient, fill

HERE = "/namespaces/default/exporters"


def row(page: Page, id: str) -> str:
    """The text of an exporter's row."""
    html = next(
        part for part in page.text.split("<tr data-key=")[1:] if part.startswith(f'"{HERE[1:]}/{id}"')
    )
    return " ".join(re.sub(r"<[^>]*>", " ", html.partition(">")[2].partition("</tr>")[0]).split())


# --- the board ----------------------------------------------------------------------------------


async def test_the_board_says_of_each_what_keeps_it_from_being_leased(bench: Console, lab: LabClient):
    await fill(lab)
    page = await bench.get("/exporters")
    assert page.rows() == [
        "imx8-1", "imx8-2", "jetson-1", "jetson-2", "rpi4-1", "rpi4-2", "stm32-1", "stm32-2",
    ]  # fmt: skip
    assert "Free" in row(page, "imx8-1")
    assert re.search(r"ann, (28|29) min .* Leased ann", row(page, "rpi4-1"))
    assert "bob, 2 h 9 min left" in row(page, "rpi4-2") or "bob, 2 h 10 min left" in row(page, "rpi4-2")
    assert "Offline last seen" in row(page, "jetson-1") and "never seen" in row(page, "jetson-2")
    assert "Not ready cleaning up after the lease" in row(page, "stm32-1")
    assert "Disabled given to nobody new" in row(page, "stm32-2")
    # Who waits for it: a link to its queue, before its labels.
    assert " 1 board rpi4" in row(page, "rpi4-1")
    assert "All 8 Free 2 Leased 2 Not ready 1 Offline 2 Disabled 1" in page.words
    [bar] = [e for e in page.dom.find("svg") if e.attrs.get("role") == "img"]
    assert bar.attrs["aria-label"] == "2 free, 2 leased, 1 not ready, 2 offline, 1 disabled"


async def test_the_board_is_chosen_by_labels_and_state_and_sorted_by_its_address(
    bench: Console, lab: LabClient
):
    await fill(lab)
    page = await bench.get("/exporters?filter=site%3Dberlin,gpu&namespace=default")
    assert page.rows() == ["imx8-2", "jetson-2"]
    assert "Exporters in default whose labels match site=berlin,gpu." in page.words
    assert "All 2 Free 1" in page.words
    free = await bench.get(page.dom.link("Free"))
    assert free.rows() == ["imx8-2"] and "filter=site%3Dberlin,gpu" in free.url
    held = await bench.get("/exporters?state=leased&order_by=until+asc")
    assert held.rows() == ["rpi4-1", "rpi4-2"]
    assert (await bench.get("/exporters?state=leased&order_by=until+desc")).rows() == ["rpi4-2", "rpi4-1"]
    # A label leads to all that have it.
    page = await bench.get("/exporters")
    assert (await bench.get(page.dom.link("boardjetson"))).rows() == ["jetson-1", "jetson-2"]


async def test_the_board_in_pages_goes_there_and_back(bench: Console, lab: LabClient):
    names = [f"e{number:02}" for number in range(23)]
    await lab.apply(exporters=[{"name": lab.name("exporters", name)} for name in names])
    page = await bench.get("/exporters?page_size=10")
    assert page.rows() == names[:10] and "1–10 of 23" in page.words
    page = await bench.get(page.dom.find("a", rel="next")[0].attrs["href"])
    page = await bench.get(page.dom.find("a", rel="next")[0].attrs["href"])
    assert page.rows() == names[20:] and "21–23 of 23" in page.words
    page = await bench.get(page.dom.find("a", rel="prev")[0].attrs["href"])
    assert page.rows() == names[10:20]
    # A place that is none leads to the first page.
    page = await bench.get("/exporters?page_size=10&page_token=nonsense")
    assert page.rows() == names[:10] and "no longer there" in page.text


async def test_a_wrong_selector_has_a_caret_under_its_mistake(bench: Console, lab: LabClient):
    await lab.absent("bench", board="rpi4")
    page = await bench.get("/exporters?filter=board+in+(rpi4,%3D)")
    assert page.status == 400
    assert "board in (rpi4,=) ^ at position 15" in page.words
    [box] = page.dom.find("textarea", id="filter")
    assert box.attrs["aria-invalid"] == "true" and box.attrs["data-caret"] == "15"
    assert page.rows() == []


async def test_an_order_that_there_is_not_is_left_out(bench: Console, lab: LabClient):
    await lab.absent("bench")
    page = await bench.get("/exporters?order_by=labels")
    assert page.status == 200 and "cannot be sorted by “labels”" in page.text and page.rows() == ["bench"]


async def test_empty_boards_say_what_to_do(bench: Console, lab: LabClient):
    page = await bench.get("/exporters")
    assert "No exporters in default" in page.words and "make demo" in page.words
    form = await bench.get(page.dom.link("Register an exporter"))
    assert form.dom.find("input", id="namespace")[0].attrs["value"] == "default"
    await lab.absent("bench")
    page = await bench.get("/exporters?filter=board%3Dnone&state=free")
    assert "There are no free exporters in default whose labels match board=none." in page.words
    assert (await bench.get(page.dom.link("All exporters"))).rows() == ["bench"]


async def test_without_the_service_the_pages_say_so(console: Console):
    await console.sign_in("admin")
    assert not {"/exporters", "/leases"} & {
        e.attrs.get("href") for e in (await console.get("/")).dom.find("a")
    }
    for path in ("/exporters", "/leases", "/clients", "/leases/-/new", "/lab/manifest", f"{HERE}/x"):
        page = await console.get(path)
        assert page.status == 503, path
        assert "the service jumpstarter is not enabled here" in page.words


# --- namespaces ---------------------------------------------------------------------------------


async def test_lists_stay_in_the_namespace_that_was_looked_at(bench: Console, lab: LabClient):
    await lab.absent("here")
    lab.namespace = "other"
    await lab.absent("there")
    page = await bench.get("/exporters")
    assert page.rows() == ["here"]
    assert [e.text for e in page.dom.find("select", name="namespace")[0:1]] == ["defaultother"]
    page = await bench.get("/exporters?namespace=other")
    assert page.rows() == ["there"]
    # An address that names none leads there, and then it is in the address.
    page = await bench.get("/leases")
    assert page.url == "/leases?namespace=other"
    page = await bench.get("/exporters?filter=a")
    assert page.url == "/exporters?filter=a&namespace=other"


async def test_a_namespace_that_one_may_not_touch_is_refused_and_says_what_helps(
    bench: Console, lab: LabClient
):
    page = await bench.get("/exporters?namespace=secret")
    assert page.status == 403
    assert "roundhouse user put operator --add-namespace secret" in page.words
    await lab.user("viewer", "viewer")
    async with bench.stranger() as viewer:
        await viewer.sign_in("viewer")
        page = await viewer.get("/exporters")
        assert page.status == 403
        assert "roundhouse user put viewer --add-namespace default" in page.words


# --- one exporter -------------------------------------------------------------------------------


async def test_its_page_has_the_holder_the_queue_the_past_and_the_devices(bench: Console, lab: LabClient):
    await fill(lab)
    page = await bench.get(f"{HERE}/rpi4-1")
    assert "ann has it for another 28 min" in page.words or "ann has it for another 29 min" in page.words
    assert "1 bob 2 exporters match: 2 leased" in page.words
    assert "root power jumpstarter_driver_power.client.PowerClient 2 methods" in page.words
    bars = [e for e in page.dom.find("rect") if e.attrs["class"].startswith("lease")]
    assert [bar.attrs["class"] for bar in bars] == ["lease open"]
    assert page.dom.link("rpi4-a").endswith("/leases/rpi4-a")
    # Its history in words of its own, without the controller's notes.
    assert "Leased by client default/ann via gRPC" in page.words
    assert "last_seen" not in page.words
    week = await bench.get(f"{HERE}/rpi4-1?span=week")
    assert 'aria-current="true">7 days' in week.text
    freed = await bench.get(f"{HERE}/imx8-1")
    assert "imx8-old Released ann" in freed.words
    assert "Freed by client default/ann" in freed.words
    assert "Nobody waits for it." in freed.words
    never = await bench.get(f"{HERE}/jetson-2")
    assert "It was never seen." in never.words and "jmp run --exporter jetson-2" in never.words


async def test_what_it_says_of_itself_is_text(bench: Console, lab: LabClient):
    await lab.exporter("bench")
    await lab.report(
        "bench", common_pb2.EXPORTER_STATUS_BEFORE_LEASE_HOOK_FAILED, "<script>alert(1)</script>"
    )
    page = await bench.get(f"{HERE}/bench")
    assert "its hook before the lease has failed" in page.words
    assert "<script>alert" not in page.text and "&lt;script&gt;alert" in page.text


@pytest.mark.parametrize("tab", ["history", "raw", "commands", "raw?format=json"])
async def test_its_other_pages(bench: Console, lab: LabClient, tab: str):
    await fill(lab)
    page = await bench.get(f"{HERE}/rpi4-1/{tab}")
    assert page.status == 200 and "rpi4-1" in page.words
    if tab == "commands":
        assert "jmp create lease -n rpi4-1 --duration 1h" in page.words
        assert "roundhouse jumpstarter config exporter default/rpi4-1" in page.words


async def test_one_that_is_gone_leaves_its_history(bench: Console, lab: LabClient):
    assert (await bench.get(f"{HERE}/nothing")).status == 404
    await lab.absent("bench")
    page = await bench.post(f"{HERE}/bench/delete", {"revision": "0"})
    assert page.url == "/exporters?namespace=default" and "Deleted exporter default/bench." in page.words
    page = await bench.get(f"{HERE}/bench")
    assert page.status == 404 and "This exporter was deleted" in page.words
    assert "Deleted by operator" in page.words


# --- writes -------------------------------------------------------------------------------------


async def test_registering_one_shows_its_file_once(bench: Console, lab: LabClient):
    typed = {"namespace": "default", "id": "bench-1", "labels": "board=rpi4\r\nsite=berlin"}
    page = await bench.post("/exporters", typed)
    assert page.status == 200 and "bench-1 is registered" in page.words
    [token] = set(re.findall(r"token: (ey\S+)", page.text))
    assert "kind: ExporterConfig" in page.words and "jmp run --exporter bench-1" in page.words
    stored = await lab.exporter_of("bench-1")
    assert dict(stored.labels) == {"board": "rpi4", "site": "berlin"}
    # The token connects it.
    lab.tokens[stored.name] = token
    await lab.report("bench-1")
    assert (await lab.exporter_of("bench-1")).online
    # Nowhere else, and not again.
    assert token not in (await bench.get(f"{HERE}/bench-1/connect")).text
    again = await bench.post(f"{HERE}/bench-1/connect")
    assert token not in again.text and "token: ey" in again.text


@pytest.mark.parametrize(
    "typed,field,says",
    [
        ({"id": ""}, "id", "say what it is called"),
        ({"id": "Bench 1"}, "id", "DNS-1123"),
        ({"namespace": ""}, "namespace", "say in which namespace"),
        ({"labels": "board"}, "labels", "“board” is not key=value"),
        ({"labels": "board=a\nboard=b"}, "labels", "board is given twice"),
        ({"labels": "board=not this"}, "labels", "not this"),
        ({"labels": "jumpstarter.dev/x=y"}, "labels", "is set by the exporter"),
    ],
)
async def test_a_wrong_registration_keeps_what_was_typed(
    bench: Console, lab: LabClient, typed: dict[str, str], field: str, says: str
):
    given = {"namespace": "default", "id": "bench-1", "labels": "board=rpi4", **typed}
    page = await bench.post("/exporters", given)
    assert page.status == 400
    [wrong] = [e for e in page.elements_with_error() if e.attrs["name"] == field]
    assert says in page.text.replace("&#39;", "'")
    for name, value in given.items():
        assert value in page.text, name
    assert wrong.attrs["aria-describedby"] == f"{field}-error"


async def test_a_name_that_is_taken_is_not_written_over(bench: Console, lab: LabClient):
    await lab.absent("bench-1", board="rpi4")
    page = await bench.post("/exporters", {"namespace": "default", "id": "bench-1", "labels": "board=imx8"})
    assert page.status == 409 and "Exporter bench-1 exists already" in page.words
    # Nor with the very same labels.
    page = await bench.post("/exporters", {"namespace": "default", "id": "bench-1", "labels": "board=rpi4"})
    assert page.status == 409
    assert dict((await lab.exporter_of("bench-1")).labels) == {"board": "rpi4"}


async def test_it_is_disabled_and_enabled_with_undo(bench: Console, lab: LabClient):
    await lab.exporter("bench", board="rpi4")
    page = await bench.post(f"{HERE}/bench/disable")
    assert page.url == f"{HERE}/bench" and "is given to nobody new" in page.words
    assert not (await lab.exporter_of("bench")).enabled
    undo = next(e for e in page.dom.find("form") if e.text.strip() == "Undo").attrs["action"]
    page = await bench.post(undo)
    assert "bench can be leased again." in page.words
    found = await lab.exporter_of("bench")
    assert found.enabled and dict(found.labels) == {"board": "rpi4"} and found.online
    assert (await bench.post(f"{HERE}/nothing/disable")).status == 404


async def test_labels_are_edited_beside_what_the_exporter_says(bench: Console, lab: LabClient):
    """Its own reports are no change of the text; another person's are, and both keep theirs."""
    await lab.exporter("bench", board="rpi4")
    page = await bench.get(f"{HERE}/bench/edit")
    form = {e.attrs["name"]: e.attrs.get("value", "") for e in page.dom.find("input", type="hidden")}
    base = next(e.text for e in page.dom.find("textarea", name="base")).lstrip("\n")
    assert "board: rpi4" in base and "status" not in base and "jumpstarter.dev" not in base
    await lab.report("bench", common_pb2.EXPORTER_STATUS_AVAILABLE, "still here")
    form |= {"base": base, "text": base.replace("rpi4", "rpi5"), "action": "preview"}
    page = await bench.post(f"{HERE}/bench/edit", form)
    assert "What would change" in page.words and "Changed while you edit" not in page.words
    await lab.apply(exporters=[{"name": lab.name("exporters", "bench"), "enabled": False}])
    page = await bench.post(f"{HERE}/bench/edit", form)
    assert "Changed while you edit" in page.words
    digest = {e.attrs["name"]: e.attrs["value"] for e in page.dom.find("input", type="hidden")}
    page = await bench.post(f"{HERE}/bench/edit", {**form, **digest, "action": "apply"})
    assert "Changed default/bench" in page.words
    found = await lab.exporter_of("bench")
    assert dict(found.labels) == {"board": "rpi5"} and not found.enabled and found.online


async def test_it_cannot_be_deleted_while_it_is_leased(bench: Console, lab: LabClient):
    await fill(lab)
    page = await bench.get(f"{HERE}/rpi4-1/delete")
    assert "It cannot be deleted while these need it 1 lease: namespaces/default/leases/rpi4-a" in page.words
    assert not page.dom.button("Delete exporter").enabled
    page = await bench.post(f"{HERE}/rpi4-1/delete", {"revision": "0"})
    assert page.status == 409 and "is leased by namespaces/default/leases/rpi4-a" in page.words
    assert (await lab.exporter_of("rpi4-1")).lease
    await lab.release("ann", "rpi4-a")
    # The next one in the queue has it at once.
    assert (await lab.exporter_of("rpi4-1")).lease.endswith("rpi4-c")
    page = await bench.post(f"{HERE}/imx8-1/delete", {"revision": "0"})
    assert "Deleted exporter default/imx8-1." in page.words
    with pytest.raises(CallFailed, match="NOT_FOUND"):
        await lab.stored("exporter", "exporters", "imx8-1", lab_pb2.Exporter)
