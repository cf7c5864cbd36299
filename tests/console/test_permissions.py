"""What a role may not do is shown as such, and refused by name when it is tried anyway."""

from __future__ import annotations

import pytest

from admin_ui.routes import ROUTES
from shared.auth.permissions import GRANTS
from tests.console.catalogue import catalogue_client
from tests.console.harness import Console, Page, client_of
from tests.console.lab import LabClient, fill
from tests.console.test_experiments import some

# Writes that everyone may do: they concern the own browser only.
OWN = ("/preferences", "/sign-out", "/sign-in")


def enabled_writes(page: Page) -> list[str]:
    """Where the page's enabled buttons would write: to their own address or to their form's."""
    found = []
    for button in page.dom.find("button"):
        form = next((parent for parent in button.inside if parent.tag == "form"), None)
        if form is None or form.attrs.get("method") != "post":
            continue
        target = button.attrs.get("formaction") or form.attrs.get("action", "")
        if button.enabled and button.attrs.get("type") != "button" and not target.startswith(OWN):
            found.append(f"{button.text} -> {target}")
    return found


def test_every_route_asks_for_a_permission_that_the_services_know():
    known = {*GRANTS, "open", "public", "signed in"}
    assert {route.permission for route in ROUTES} <= known


def test_no_write_is_open_to_everyone_but_those_of_the_own_browser():
    lax = {route.path for route in ROUTES if route.method == "POST" and route.permission not in GRANTS}
    # An undo asks for the permission of what it does, in its view.
    assert lax == {"/sign-in", "/sign-out", "/preferences", "/operations/{id}/undo"}


async def test_a_viewer_sees_everything_and_no_enabled_write(console: Console):
    ids = await some(console, 2)
    async with client_of(console.service) as client:
        await client.archive(ids[0])
    await console.sign_in("viewer")
    pages = ["/", "/experiments?state=all", "/-/patterns", *(f"/experiments/{id}" for id in ids)]
    for path in pages:
        page = await console.get(path)
        assert page.status == 200, path
        assert enabled_writes(page) == [], path
        links = {e.attrs.get("href", "") for e in page.dom.find("a")}
        assert not any(link.endswith(("/new", "/delete")) for link in links), path
    listed = await console.get("/experiments?state=all")
    assert len(listed.rows()) == 2
    reasons = {e.attrs["title"] for e in listed.dom.find("button") if "title" in e.attrs}
    assert "Archive: needs experiments.archive" in reasons
    assert "New experiment: needs experiments.create" in reasons
    # Nor a way to pages that would refuse.
    assert not {"/activity", "/access"} & {e.attrs.get("href") for e in listed.dom.find("a")}


async def test_a_viewer_sees_the_whole_catalogue_and_no_enabled_write(catalogue: Console):
    await catalogue.sign_in("viewer")
    one = ("/regions/jp", "/services/jobs.example.com", "/regions/jp/deployments/jobs")
    lists = ("/regions", "/regions/-/connectivity", "/services", "/resources", "/deployments")
    for path in (
        *lists,
        *one,
        *(f"{name}/{page}" for name in one for page in ("history", "raw", "commands")),
    ):
        page = await catalogue.get(path)
        assert page.status == 200, path
        assert enabled_writes(page) == [], path
        links = {e.attrs.get("href", "").partition("?")[0] for e in page.dom.find("a")}
        assert not any(link.endswith(("/edit", "/delete", "/manifest")) for link in links), path
        if "history" not in path and path not in lists:
            reasons = {e.attrs["title"] for e in page.dom.find("button") if "title" in e.attrs}
            assert {"Edit: needs admin.apply", "Delete…: needs admin.delete"} <= reasons, path
    listed = await catalogue.get("/regions")
    reasons = {e.attrs["title"] for e in listed.dom.find("button") if "title" in e.attrs}
    assert {"Apply a manifest…: needs admin.apply", "Delete jp…: needs admin.delete"} <= reasons


LAB = "/namespaces/default"


async def test_a_viewer_sees_the_whole_lab_and_no_enabled_write(bench: Console, lab: LabClient):
    await fill(lab)
    await lab.user("viewer", "viewer", "default")
    await bench.sign_in("viewer")
    ones = [
        *(f"{LAB}/exporters/{id}" for id in ("rpi4-1", "imx8-1", "stm32-2", "jetson-2")),
        *(f"{LAB}/leases/{id}" for id in ("rpi4-a", "rpi4-c", "imx8-old", "imx8-later")),
        f"{LAB}/clients/ann",
        f"{LAB}/accessPolicies/everyone",
    ]
    lists = ["/", "/exporters", "/leases?show=all", "/clients", "/access_policies", "/exporters?filter=none"]
    others = [f"{name}/{page}" for name in ones[::4] for page in ("history", "raw", "commands")]
    for path in (*lists, *ones, *others):
        page = await bench.get(path)
        assert page.status == 200, path
        assert enabled_writes(page) == [], path
        links = {e.attrs.get("href", "").partition("?")[0] for e in page.dom.find("a")}
        wrong = ("/edit", "/delete", "/release", "/connect", "/-/new", "/lab/manifest")
        assert not any(link.endswith(wrong) for link in links), path
    page = await bench.get(f"{LAB}/exporters/rpi4-1")
    reasons = {e.attrs["title"] for e in page.dom.find("button") if "title" in e.attrs}
    assert {
        "Lease it: needs leases.create", "Disable: needs admin.apply", "Connect…: needs tokens.issue",
        "Edit: needs admin.apply", "Delete…: needs admin.delete",
    } <= reasons  # fmt: skip
    page = await bench.get(f"{LAB}/leases/rpi4-a")
    reasons = {e.attrs["title"] for e in page.dom.find("button") if "title" in e.attrs}
    assert {"1 h: needs leases.update", "Hand over: needs leases.update"} <= reasons
    assert "Release…: needs leases.delete" in reasons


@pytest.mark.parametrize(
    "path,permission",
    [
        ("/exporters", "admin.apply"),
        (f"{LAB}/exporters/rpi4-1/disable", "admin.apply"),
        (f"{LAB}/exporters/rpi4-1/connect", "tokens.issue"),
        (f"{LAB}/exporters/rpi4-1/edit", "admin.apply"),
        (f"{LAB}/exporters/imx8-1/delete", "admin.delete"),
        (f"{LAB}/exporters/nothing/delete", "admin.delete"),
        ("/leases", "leases.create"),
        ("/leases/-/release", "leases.delete"),
        (f"{LAB}/leases/rpi4-a/extend", "leases.update"),
        (f"{LAB}/leases/rpi4-a/transfer", "leases.update"),
        (f"{LAB}/leases/rpi4-a/release", "leases.delete"),
        ("/clients", "admin.apply"),
        (f"{LAB}/clients/ann/connect", "tokens.issue"),
        (f"{LAB}/accessPolicies/everyone/delete", "admin.delete"),
        ("/lab/manifest", "admin.apply"),
    ],
)
async def test_a_forged_write_to_the_lab_is_refused(
    bench: Console, lab: LabClient, path: str, permission: str
):
    await fill(lab)
    await lab.user("viewer", "viewer", "default")
    await bench.sign_in("viewer")
    before = await lab.service.running.environment.store.head()
    data = {"id": "namespaces/default/leases/rpi4-a", "client": "bob", "by": "1h", "confirmed": "yes"}
    data |= {"namespace": "default", "selector": "board=imx8", "text": "exporters: []", "prune": "on"}
    page = await bench.post(path, {**data, "action": "apply"})
    assert page.status == 403
    assert f"Missing permission: {permission}" in page.words
    # Controllers note their signs of life, and nothing else was written.
    changes = await lab.service.running.environment.store.changes(before, 100)
    assert {change.kind for commit in changes for change in commit.changes} <= {"controller"}


@pytest.mark.parametrize(
    "path,permission",
    [
        ("/manifest", "admin.apply"),
        ("/regions/jp/edit", "admin.apply"),
        ("/regions/nowhere/edit", "admin.apply"),
        ("/regions/jp/deployments/jobs/delete", "admin.delete"),
        ("/services/nothing/delete", "admin.delete"),
    ],
)
async def test_a_forged_write_to_the_catalogue_is_refused(catalogue: Console, path: str, permission: str):
    await catalogue.sign_in("viewer")
    async with catalogue_client(catalogue.service) as client:
        before = await client.head()
        data = {"text": "regions: []", "base": "", "prune": "on", "action": "apply"}
        for page in (await catalogue.get(path), await catalogue.post(path, data)):
            assert page.status == 403
            assert f"Missing permission: {permission}" in page.words
        assert await client.head() == before


async def test_an_operator_has_the_writes(console: Console):
    await some(console, 1)
    await console.sign_in("operator")
    assert len(enabled_writes(await console.get("/experiments"))) >= 3


@pytest.mark.parametrize(
    "path,permission",
    [
        ("/experiments", "experiments.create"),
        ("/experiments/{id}/archive", "experiments.archive"),
        ("/experiments/{id}/unarchive", "experiments.unarchive"),
        ("/experiments/{id}/delete", "experiments.delete"),
        ("/experiments/nothing/delete", "experiments.delete"),
        ("/experiments/bulk/archive", "experiments.archive"),
        ("/experiments/bulk/unarchive", "experiments.unarchive"),
        ("/experiments/bulk/delete", "experiments.delete"),
        ("/access/tokens", "tokens.create"),
        ("/access/tokens/x/revoke", "tokens.revoke"),
        ("/access/users", "users.put"),
        ("/access/sign-in-links", "signInCodes.create"),
    ],
)
async def test_a_forged_write_is_refused_and_names_the_permission(
    console: Console, path: str, permission: str
):
    [id] = await some(console, 1)
    await console.sign_in("viewer")
    data = {"id": id, "display_name": "x", "subject": "x", "role": "admin", "confirmed": "yes"}
    page = await console.post(path.format(id=id), data)
    assert page.status == 403
    assert f"Missing permission: {permission}" in page.words
    assert "the role viewer" in page.words
    async with client_of(console.service) as client:
        assert await client.names() == ["exp-00"]
        assert await client.state(id) == "AVAILABLE"


async def test_pages_of_other_roles_are_refused(console: Console):
    await console.sign_in("operator")
    for path, permission in (
        ("/activity", "audit.list"),
        ("/access", "tokens.list"),
        ("/access/users", "users.list"),
    ):
        page = await console.get(path)
        assert page.status == 403
        assert permission in page.words


async def test_a_role_that_was_lowered_counts_at_once(console: Console):
    async with console.stranger() as admin:
        await admin.sign_in("admin")
        await console.sign_in("operator")
        assert (await console.post("/experiments", {"display_name": "before"})).status == 200
        await admin.post("/access/users", {"subject": "operator", "role": "viewer"})
        page = await console.post("/experiments", {"display_name": "after"})
        assert page.status == 403
        assert "experiments.create" in page.text
        await admin.post("/access/users", {"subject": "operator", "role": "operator"})
        assert (await console.post("/experiments", {"display_name": "again"})).status == 200
