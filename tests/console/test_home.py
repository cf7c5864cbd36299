"""Home says how every service is, above all when one is down."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path

import grpc
import grpc.aio

from admin_ui import render
from services.jumpstarter.service import SERVICE as JUMPSTARTER
from services.pipelines.service import SERVICE
from shared.service.testing import started
from tests.console.harness import Console, client_of, console_of
from tests.console.lab import LabClient, fill, lab_client
from tests.console.test_experiments import some
from tests.console.test_live import open_stream


async def test_home_shows_health_counts_and_what_happened(console: Console):
    ids = await some(console, 3)
    async with client_of(console.service) as client:
        await client.archive(ids[0])
    await console.sign_in("admin")
    page = await console.get("/")
    assert console.service.target in page.words
    assert "2 active 1 archived" in page.words
    assert "Archived experiment exp-00" in page.words and "Created experiment exp-02" in page.words


async def test_a_viewers_home_says_what_it_cannot_show(console: Console):
    await console.sign_in("viewer")
    assert "needs the permission audit.list" in (await console.get("/")).words


async def test_a_service_that_stops_is_explained_everywhere_and_found_again(tmp_path: Path):
    settings = {"store": "sqlite", "default_experiment": "false", "stop_grace": "100ms"}
    async with started(SERVICE, tmp_path / "data", **settings) as service:
        port = service.running.grpc_port
        async with console_of(service, tmp_path / "c") as console:
            await some(console, 1)
            await console.sign_in("admin")
            async with (
                open_stream(console, "/live") as stream,
                open_stream(console, "/experiments/live") as rows,
            ):
                await stream.live()
                await rows.live()
                await _stop_and_look(console, stream)
                assert (await rows.until("state"))["state"] == "reconnecting"
                # The same service again, where it was.
                async with started(SERVICE, tmp_path / "data", grpc_port=str(port), **settings):
                    async with asyncio.timeout(5):
                        while "Serving" not in (await stream.until("parts")).get("health", ""):
                            pass
                    assert (await console.get("/experiments")).rows() == ["exp-00"]
                    # An open list goes on by itself, and has what happened since.
                    await rows.live()
                    async with client_of(service) as client:
                        id = await client.create("after")
                    assert id in (await rows.until("rows"))["rows"]


async def _stop_and_look(console: Console, stream) -> None:
    # Its gRPC side only: the block that started it closes the rest.
    running = console.service.running
    await running.environment.stack.aclose()
    async with asyncio.timeout(5):
        while "Down" not in (await stream.until("parts")).get("health", ""):
            pass
    home = await console.get("/")
    assert home.status == 200
    assert "Pipelines does not serve" in home.words and "picks up by itself" in home.words
    assert "service down" in home.text
    listed = await console.get("/experiments?q=exp")
    assert listed.status == 503
    assert "The service does not answer" in listed.words and "UNAVAILABLE" in listed.words
    # The rest of the page stands, and what was typed.
    assert listed.dom.find("input", id="q")[0].attrs["value"] == "exp"
    form = await console.post("/experiments", {"display_name": "kept", "description": "all of it"})
    assert form.status == 503
    assert form.dom.find("input", id="display_name")[0].attrs["value"] == "kept"
    assert "all of it" in form.text
    detail = await console.get("/experiments/x")
    assert detail.status == 503 and 'http-equiv="refresh"' in detail.text


async def test_a_console_that_starts_alone_keeps_people_signed_in_and_permits_nothing(
    tmp_path: Path, pipelines, unused_tcp_port: int
):
    async with console_of(pipelines, tmp_path / "c") as console:
        await console.sign_in("operator")
        cookies = {c.key: c.value for c in console.http.cookie_jar}
    async with console_of(pipelines, tmp_path / "c", target=f"127.0.0.1:{unused_tcp_port}") as alone:
        page = await alone.get("/", cookies=cookies)
        assert page.status == 200
        assert "operator" in page.text and "No service can say what you may do" in page.words
        listed = await alone.get("/experiments", cookies=cookies)
        assert listed.status == 503
        assert not listed.dom.button("New experiment").enabled


async def test_without_authentication_everyone_comes_in_and_is_warned(tmp_path: Path):
    async with (
        started(SERVICE, tmp_path / "data", auth=False, default_experiment="false") as service,
        console_of(service, tmp_path / "c", auth="false") as console,
    ):
        page = await console.get("/")
        assert page.status == 200
        assert "Authentication is switched off" in page.words
        made = await console.post("/experiments", {"display_name": "open"})
        assert made.status == 200
        assert (await console.get("/experiments")).rows() == ["open"]


@dataclass
class Elsewhere:
    """An address at which no service of ours is."""

    target: str


async def test_one_service_that_is_down_leaves_the_rest_live(pipelines, tmp_path: Path, unused_tcp_port: int):
    beside = {"meta": Elsewhere(f"127.0.0.1:{unused_tcp_port}")}
    async with console_of(pipelines, tmp_path / "c", beside=beside) as console:
        await console.sign_in("admin")
        page = await console.get("/")
        assert "– regions" in page.words and "0 active" in page.words
        assert "service down" in page.text
        assert (await console.get("/regions")).status == 503
        async with open_stream(console, "/live") as stream, client_of(console.service) as client:
            await stream.live()
            await client.create("still seen")
            while "still seen" not in (await stream.until("parts")).get("recent", ""):
                pass


class Silent(grpc.GenericRpcHandler):
    """Takes every call and never answers."""

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        async def never(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
            await asyncio.Event().wait()
            return b""

        return grpc.unary_unary_rpc_method_handler(never)


async def test_a_service_that_hangs_holds_up_its_own_pages_only(pipelines, tmp_path: Path):
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Silent(),))
    beside = {"meta": Elsewhere(f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}")}
    await server.start()
    try:
        async with console_of(pipelines, tmp_path / "c", beside=beside) as console, asyncio.timeout(10):
            clients = console.app[render.CLIENTS]
            clients.ask_last("pipelines")
            await console.sign_in("viewer")
            begun = asyncio.get_running_loop().time()
            assert (await console.get("/experiments")).status == 200
            assert asyncio.get_running_loop().time() - begun < 1.0
            # Whom nobody heard of is asked last from then on.
            assert clients.order == ["pipelines", "meta"]
    finally:
        await server.stop(None)


async def test_home_has_the_lab_at_a_glance(bench: Console, lab: LabClient):
    page = await bench.get("/")
    assert "No exporters yet. make demo starts some, or register the first ." in page.words
    await fill(lab)
    page = await bench.get("/")
    assert "Lab 2 free 2 leased 2 offline 2 waiting" in page.words
    # What ends soon, and not what lasts.
    assert "rpi4-1 of ann ends" in page.words and "rpi4-2 of bob" not in page.words
    assert (await bench.get(page.dom.link("offline"))).rows() == ["jetson-1", "jetson-2"]


async def test_home_counts_the_lab_in_all_namespaces_that_one_may_touch(bench: Console, lab: LabClient):
    await lab.exporter("one")
    lab.namespace = "other"
    await lab.exporter("two")
    lab.namespace = "secret"
    await lab.exporter("three")
    assert "Lab 2 free" in (await bench.get("/")).words
    await bench.sign_in("admin")
    assert "Lab 3 free" in (await bench.get("/")).words


async def test_home_names_who_waits_for_long(tmp_path: Path):
    # The service's clock is behind: what was asked for just now was so twenty minutes ago.
    def late() -> int:
        return time.time_ns() - 20 * 60 * 10**9

    async with (
        started(JUMPSTARTER, tmp_path / "lab", clock=late) as service,
        lab_client(service) as lab,
        console_of(service, tmp_path / "console", name="jumpstarter") as console,
    ):
        await lab.new_client("ann")
        await lab.absent("bench", board="rpi4")
        await lab.lease("ann", "board=rpi4", id="one")
        await console.sign_in("admin")
        page = await console.get("/")
        assert "1 waiting ann waits: 1 exporter matches: 1 offline" in page.words
        assert page.dom.link("ann") == "/namespaces/default/leases/one"
