"""Clients and access policies, made by forms and by manifests."""

from __future__ import annotations

import re

from shared.pb.roundhouse.lab.v1 import lab_pb2
from tests.console.harness import Console, Page
from tests.console.lab import LabClient, fill

PLACE = "/namespaces/default"


async def test_clients_are_listed_and_found(bench: Console, lab: LabClient):
    await fill(lab)
    page = await bench.get("/clients")
    assert page.rows() == ["ann", "bob"] and "team kernel" in page.words
    page = await bench.get('/clients?filter=labels.team+%3D+"boot"+--+a+comment')
    assert page.rows() == ["bob"]
    page = await bench.get("/clients?filter=labels.team+%3D&namespace=default")
    assert page.status == 400 and "labels.team = ^ at position 13" in page.words


async def test_a_client_is_made_with_the_file_that_connects_it(bench: Console, lab: LabClient):
    page = await bench.post("/clients", {"namespace": "other", "id": "ci", "labels": "team=ci"})
    assert "ci is made" in page.words and "kind: ClientConfig" in page.words
    [token] = set(re.findall(r"token: (ey\S+)", page.text))
    lab.namespace = "other"
    lab.tokens[lab.name("clients", "ci")] = token
    await lab.absent("bench", board="x")
    await lab.lease("ci", "board=x", id="its-own")
    assert (await lab.lease_of("its-own")).client.endswith("/clients/ci")
    page = await bench.get("/namespaces/other/clients/ci")
    assert "its-own Waiting" in page.words and page.dom.link("Connect…").endswith("/ci/connect")


async def test_a_clients_page_has_its_leases_and_it_cannot_go_before_them(bench: Console, lab: LabClient):
    await fill(lab)
    page = await bench.get(f"{PLACE}/clients/ann")
    assert "imx8-later Scheduled" in page.words and "rpi4-a Active rpi4-1" in page.words
    page = await bench.get(f"{PLACE}/clients/ann/delete")
    assert "3 leases:" in page.words and not page.dom.button("Delete client").enabled
    page = await bench.post(f"{PLACE}/clients/ann/delete", {"revision": "0"})
    assert page.status == 409


async def test_policies_are_read_in_words(bench: Console, lab: LabClient):
    await fill(lab)
    page = await bench.get("/access_policies")
    assert page.rows() == ["everyone", "gpu-for-kernel"]
    assert "everyone every exporter every client up to 1 d" in page.words
    page = await bench.get(f"{PLACE}/accessPolicies/gpu-for-kernel")
    assert "kernel first priority 10 Lets in team=kernel , for up to 2 h." in page.words
    assert (await bench.get(page.dom.link("gpu"))).rows() == ["imx8-2", "jetson-1", "jetson-2"]


async def test_without_a_policy_the_list_says_what_that_means(bench: Console, lab: LabClient):
    page = await bench.get("/access_policies")
    assert "Without any, everyone may lease everything here." in page.words
    page = await bench.get(page.dom.link("Write a policy"))
    assert "access_policies:" in page.text and "regions" not in page.text


def preview_of(page: Page) -> dict[str, str]:
    return {
        name: e.attrs["value"]
        for e in page.dom.find("input", type="hidden")
        if (name := e.attrs["name"]) in ("digest", "seen")
    }


async def test_a_manifest_of_the_lab_is_previewed_and_applied(bench: Console, lab: LabClient):
    text = """access_policies:
- name: namespaces/default/accessPolicies/all
  policies:
  - from: [{client_selector: {}}]
clients:
- name: namespaces/default/clients/ci
"""
    looked = await bench.post("/lab/manifest", {"text": text, "action": "preview"})
    assert "2 to create" in looked.words and "Create client" in looked.words
    done = await bench.post("/lab/manifest", {"text": text, "action": "apply", **preview_of(looked)})
    assert re.match(r"/(clients|access_policies)\?namespace=default$", done.url)
    assert "2 created" in done.words
    assert (await lab.stored("client", "clients", "ci", lab_pb2.Client)).uid
    # And comes back as one that changes nothing.
    page = await bench.get("/lab/manifest/lab.yaml")
    assert page.headers["Content-Disposition"] == 'attachment; filename="lab.yaml"'
    again = await bench.post("/lab/manifest", {"text": page.text, "action": "preview"})
    assert "Nothing would change" in again.words
    wrong = await bench.post("/lab/manifest", {"text": "regions: []", "action": "preview"})
    assert wrong.status == 400 and "regions" in wrong.words


async def test_a_policy_is_edited_and_only_what_changed_is_sent(bench: Console, lab: LabClient):
    await fill(lab)
    page = await bench.get(f"{PLACE}/accessPolicies/everyone/edit")
    form = {e.attrs["name"]: e.attrs.get("value", "") for e in page.dom.find("input", type="hidden")}
    base = next(e.text for e in page.dom.find("textarea", name="base")).lstrip("\n")
    text = base.replace("86400s", "3600s")
    looked = await bench.post(
        f"{PLACE}/accessPolicies/everyone/edit", {**form, "base": base, "text": text, "action": "preview"}
    )
    assert "What would change" in looked.words
    form |= preview_of(looked)
    done = await bench.post(
        f"{PLACE}/accessPolicies/everyone/edit", {**form, "base": base, "text": text, "action": "apply"}
    )
    assert done.url == f"{PLACE}/accessPolicies/everyone" and "for up to 1 h." in done.words
