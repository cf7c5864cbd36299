"""Every address of the console in one table: its name, and what it asks of who opens it.

Templates mirror the names: `experiments.detail` is templates/experiments/detail.html.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from admin_ui.catalogue import KINDS, REGION, CatalogueKind
from admin_ui.lab_kinds import CLIENT, EXPORTER, LEASE, POLICY, LabKind
from admin_ui.middleware import OPEN, PUBLIC, SIGNED_IN
from admin_ui.views import (
    access,
    activity,
    catalogue,
    catalogue_bulk,
    catalogue_delete,
    experiment_bulk,
    experiment_writes,
    experiments,
    exporter_writes,
    exporters,
    home,
    job_bulk,
    job_detail,
    job_edit,
    job_logs,
    job_logs_together,
    job_pod_bulk,
    job_pods,
    job_pools,
    job_writes,
    jobs,
    lab_people,
    lease_bulk,
    lease_writes,
    leases,
    manifests,
    operations,
    pages,
    pods,
    probes,
    sign_in,
)
from admin_ui.views.listing import Listing


@dataclass(frozen=True, slots=True)
class Route:
    method: str
    path: str
    name: str
    permission: str
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]]


def _list(
    path: str, name: str, permission: str, listing: Listing[Any], stream: str = ""
) -> tuple[Route, Route]:
    return (
        Route("GET", path, name, permission, listing.page),
        Route("GET", stream or f"{path}/-/live", f"{name}.live", permission, listing.live),
    )


def _read(kind: CatalogueKind) -> tuple[Route, ...]:
    """The pages of what is stored, which are alike for all kinds."""
    own, one, may_get = kind.plural, kind.pattern, kind.permission("get")
    return (
        Route("GET", f"{one}/history", f"{own}.history", "admin.read", catalogue.history),
        Route("GET", f"{one}/history/live", f"{own}.history.live", "admin.read", catalogue.history_live),
        Route("GET", f"{one}/raw", f"{own}.raw", may_get, catalogue.raw),
        Route("GET", f"{one}/download.{{form}}", f"{own}.download", may_get, catalogue.download),
        Route("GET", f"{one}/commands", f"{own}.commands", may_get, catalogue.commands),
    )


def _written(kind: CatalogueKind) -> tuple[Route, ...]:
    """The same of the pages that write it."""
    own, one = kind.plural, kind.pattern
    return (
        Route("GET", f"{one}/edit", f"{own}.edit", "admin.apply", manifests.edit),
        Route("GET", f"{one}/edit/live", f"{own}.edit.live", "admin.apply", manifests.edit_live),
        Route("POST", f"{one}/edit", f"{own}.edit.submit", "admin.apply", manifests.save),
        Route("GET", f"{one}/delete", f"{own}.delete", "admin.delete", catalogue_delete.confirm),
        Route("POST", f"{one}/delete", f"{own}.delete.submit", "admin.delete", catalogue_delete.delete),
    )


def _of_kind(kind: CatalogueKind) -> tuple[Route, ...]:
    """The pages of one kind of the catalogue. `-` is no id, so nothing is hidden by a list's own."""
    own, one = kind.plural, kind.pattern
    may_list, may_get = kind.permission("list"), kind.permission("get")
    return (
        *_list(f"/{own}", f"{own}.list", may_list, catalogue.LIST),
        Route("POST", f"/{own}/-/delete", f"{own}.bulk.delete", "admin.delete", catalogue_bulk.delete),
        Route("GET", one, f"{own}.detail", may_get, catalogue.detail),
        Route("GET", f"{one}/live", f"{own}.live", may_get, catalogue.detail_live),
        *_read(kind),
        *_written(kind),
    )


def _connected(kind: LabKind) -> tuple[Route, ...]:
    """The pages of what calls a lab with a token: it is made by a form, and given a file for jmp."""
    own, one = kind.plural, kind.pattern
    return (
        Route("GET", f"/{own}/-/new", f"{own}.new", "admin.apply", exporter_writes.new),
        Route("POST", f"/{own}", f"{own}.create", "admin.apply", exporter_writes.create),
        Route("GET", f"{one}/connect", f"{own}.connect", "tokens.issue", exporter_writes.connect),
        Route("POST", f"{one}/connect", f"{own}.connect.submit", "tokens.issue", exporter_writes.issue),
    )


def _lab() -> tuple[Route, ...]:
    one, lease = EXPORTER.pattern, LEASE.pattern
    return (
        *_list("/exporters", "exporters.list", "board.list", exporters.LIST),
        Route("GET", one, "exporters.detail", "admin.read", exporters.detail),
        Route("GET", f"{one}/live", "exporters.live", "admin.read", exporters.detail_live),
        Route("POST", f"{one}/enable", "exporters.enable", "admin.apply", exporter_writes.enable),
        Route("POST", f"{one}/disable", "exporters.disable", "admin.apply", exporter_writes.disable),
        *_read(EXPORTER),
        *_written(EXPORTER),
        *_connected(EXPORTER),
        *_list("/leases", "leases.list", "leases.search", leases.LIST),
        Route("GET", "/leases/-/new", "leases.new", "leases.create", lease_writes.new),
        Route("POST", "/leases", "leases.create", "leases.create", lease_writes.create),
        Route("POST", "/leases/-/release", "leases.bulk.release", "leases.delete", lease_bulk.release),
        Route("GET", lease, "leases.detail", "admin.read", leases.detail),
        Route("GET", f"{lease}/live", "leases.live", "admin.read", leases.detail_live),
        Route("POST", f"{lease}/extend", "leases.extend", "leases.update", lease_writes.extend),
        Route("POST", f"{lease}/transfer", "leases.transfer", "leases.update", lease_writes.transfer),
        Route("GET", f"{lease}/release", "leases.release", "leases.delete", lease_writes.confirm_release),
        Route("POST", f"{lease}/release", "leases.release.submit", "leases.delete", lease_writes.release),
        *_read(LEASE),
        *(route for kind in (CLIENT, POLICY) for route in _people(kind)),
        *_connected(CLIENT),
        Route("GET", "/lab/manifest", "lab.manifest", "admin.apply", manifests.new),
        Route("POST", "/lab/manifest", "lab.manifest.submit", "admin.apply", manifests.submit),
        Route("GET", "/lab/manifest/lab.yaml", "lab.manifest.present", "admin.read", manifests.present),
    )


def _people(kind: LabKind) -> tuple[Route, ...]:
    own, one = kind.plural, kind.pattern
    return (
        *_list(f"/{own}", f"{own}.list", "admin.read", lab_people.LIST),
        Route("GET", one, f"{own}.detail", "admin.read", lab_people.detail),
        Route("GET", f"{one}/live", f"{own}.live", "admin.read", lab_people.detail_live),
        *_read(kind),
        *_written(kind),
    )


def _jobs() -> tuple[Route, ...]:
    """`-` is no id of a job, so nothing is hidden by the list's own."""
    one = "/jobs/{id}"
    return (
        Route("GET", "/pools", "pools.list", "resourcePools.get", job_pools.list_),
        Route("GET", "/pools/-/live", "pools.live", "resourcePools.get", job_pools.live),
        *_list("/jobs", "jobs.list", "jobs.list", jobs.LIST),
        Route("GET", "/jobs/-/new", "jobs.new", "jobs.create", job_edit.new),
        Route("POST", "/jobs", "jobs.create", "jobs.create", job_edit.create),
        Route("POST", "/jobs/-/start", "jobs.bulk.start", "jobs.start", job_bulk.start),
        Route("POST", "/jobs/-/stop", "jobs.bulk.stop", "jobs.stop", job_bulk.stop),
        Route("POST", "/jobs/-/delete", "jobs.bulk.delete", "jobs.delete", job_bulk.delete),
        Route("GET", one, "jobs.detail", "jobs.get", job_detail.detail),
        Route("GET", f"{one}/live", "jobs.live", "jobs.get", job_detail.detail_live),
        Route("GET", f"{one}/workflows", "jobs.workflows", "jobs.get", job_detail.workflows),
        Route("GET", f"{one}/workflows/live", "jobs.workflows.live", "jobs.get", job_detail.workflows_live),
        Route("GET", f"{one}/versions", "jobs.versions", "admin.read", job_detail.versions),
        Route("GET", f"{one}/history", "jobs.history", "admin.read", job_detail.history),
        Route("GET", f"{one}/history/live", "jobs.history.live", "admin.read", job_detail.history_live),
        Route("GET", f"{one}/raw", "jobs.raw", "jobs.get", job_detail.raw),
        Route("GET", f"{one}/download.{{form}}", "jobs.download", "jobs.get", job_detail.download),
        Route("GET", f"{one}/commands", "jobs.commands", "jobs.get", job_detail.commands),
        Route("GET", f"{one}/edit", "jobs.edit", "jobs.update", job_edit.edit),
        Route("GET", f"{one}/edit/live", "jobs.edit.live", "jobs.update", job_edit.edit_live),
        Route("POST", f"{one}/edit", "jobs.edit.submit", "jobs.update", job_edit.save),
        *_job_writes(one),
        *_job_pods(f"{one}/pods"),
        Route("GET", f"{one}/logs", "job_pods.together", "pods.log", job_logs_together.page),
        Route("GET", f"{one}/logs/live", "job_pods.together.live", "pods.log", job_logs_together.live),
    )


def _job_writes(one: str) -> tuple[Route, ...]:
    return (
        Route("POST", f"{one}/start", "jobs.start", "jobs.start", job_writes.start),
        Route("GET", f"{one}/stop", "jobs.stop", "jobs.stop", job_writes.confirm_stop),
        Route("POST", f"{one}/stop", "jobs.stop.submit", "jobs.stop", job_writes.stop),
        Route("GET", f"{one}/restart", "jobs.restart", "jobs.restart", job_writes.confirm_restart),
        Route("POST", f"{one}/restart", "jobs.restart.submit", "jobs.restart", job_writes.restart),
        Route("POST", f"{one}/pause", "jobs.pause", "workflows.control", job_writes.pause),
        Route("POST", f"{one}/resume", "jobs.resume", "workflows.control", job_writes.resume),
        Route("GET", f"{one}/abort", "jobs.abort", "workflows.control", job_writes.confirm_abort),
        Route("POST", f"{one}/abort", "jobs.abort.submit", "workflows.control", job_writes.abort),
        Route("POST", f"{one}/refresh", "jobs.refresh", "jobs.refresh", job_writes.refresh),
        Route("GET", f"{one}/delete", "jobs.delete", "jobs.delete", job_writes.confirm_delete),
        Route("POST", f"{one}/delete", "jobs.delete.submit", "jobs.delete", job_writes.delete),
    )


def _job_pods(all: str) -> tuple[Route, ...]:
    one = f"{all}/{{instance}}"
    log = f"{one}/logs"
    return (
        *_list(all, "job_pods.list", "pods.list", job_pods.LIST),
        Route("POST", f"{all}/-/start", "job_pods.bulk.start", "pods.start", job_pod_bulk.start),
        Route("POST", f"{all}/-/stop", "job_pods.bulk.stop", "pods.stop", job_pod_bulk.stop),
        Route("POST", f"{all}/-/restart", "job_pods.bulk.restart", "pods.restart", job_pod_bulk.restart),
        Route("GET", one, "job_pods.detail", "pods.get", job_pods.detail),
        Route("GET", f"{one}/live", "job_pods.live", "pods.get", job_pods.detail_live),
        Route("GET", f"{one}/raw", "job_pods.raw", "pods.get", job_pods.raw),
        Route("GET", f"{one}/download.{{form}}", "job_pods.download", "pods.get", job_pods.download),
        Route("GET", f"{one}/commands", "job_pods.commands", "pods.get", job_pods.commands),
        Route("POST", f"{one}/start", "job_pods.start", "pods.start", job_pods.start),
        Route("POST", f"{one}/stop", "job_pods.stop", "pods.stop", job_pods.stop),
        Route("POST", f"{one}/restart", "job_pods.restart", "pods.restart", job_pods.restart),
        Route("GET", log, "job_pods.logs", "pods.log", job_logs.page),
        Route("GET", f"{log}/live", "job_pods.logs.live", "pods.log", job_logs.live),
        Route("GET", f"{log}/lines", "job_pods.logs.lines", "pods.log", job_logs.lines),
        Route("GET", f"{log}/search", "job_pods.logs.search", "pods.log", job_logs.search),
        Route("GET", f"{log}/download", "job_pods.logs.download", "pods.log", job_logs.download),
    )


def _pods() -> tuple[Route, ...]:
    one, view = "/pods/{id}", "pods.view"
    return (
        *_list("/pods", "pods.list", view, pods.LIST),
        Route("GET", "/pods/-/export.ndjson", "pods.export", view, pods.export),
        Route("GET", one, "pods.detail", "admin.read", pods.detail),
        Route("GET", f"{one}/live", "pods.live", "admin.read", pods.detail_live),
        Route("GET", f"{one}/raw", "pods.raw", "admin.read", pods.raw),
        Route("GET", f"{one}/download.{{form}}", "pods.download", "admin.read", pods.download),
        Route("GET", f"{one}/commands", "pods.commands", "admin.read", pods.commands),
    )


ROUTES: Final[tuple[Route, ...]] = (
    # Open to probes and collectors.
    Route("GET", "/healthz", "probes.healthz", OPEN, probes.healthz),
    Route("GET", "/readyz", "probes.readyz", OPEN, probes.readyz),
    Route("GET", "/metrics", "probes.metrics", OPEN, probes.metrics),
    Route("GET", "/static/{file}", "static", OPEN, probes.static),
    Route("GET", "/favicon.ico", "favicon", OPEN, probes.favicon),
    # Coming and going.
    Route("GET", "/sign-in", "sign-in", PUBLIC, sign_in.form),
    Route("POST", "/sign-in", "sign-in.submit", PUBLIC, sign_in.submit),
    Route("POST", "/sign-out", "sign-out", PUBLIC, sign_in.sign_out),
    Route("GET", "/preferences", "preferences", PUBLIC, pages.preferences),
    Route("POST", "/preferences", "preferences.save", PUBLIC, pages.save_preferences),
    Route("GET", "/help", "help", PUBLIC, pages.help),
    Route("GET", "/-/patterns", "patterns", SIGNED_IN, pages.patterns),
    # Home.
    Route("GET", "/", "home", SIGNED_IN, home.home),
    Route("GET", "/live", "home.live", SIGNED_IN, home.live),
    # The catalogue.
    *_list(
        "/regions/-/connectivity", "regions.network", REGION.permission("list"), catalogue.NETWORK,
        "/regions/-/connectivity/live",
    ),
    *(route for kind in KINDS.values() for route in _of_kind(kind)),
    Route("GET", "/manifest", "manifest", "admin.apply", manifests.new),
    Route("POST", "/manifest", "manifest.submit", "admin.apply", manifests.submit),
    Route("GET", "/manifest/catalogue.yaml", "manifest.present", "admin.read", manifests.present),
    # The lab.
    *_lab(),
    # Jobs.
    *_jobs(),
    # Pods.
    *_pods(),
    # Experiments.
    *_list("/experiments", "experiments.list", "experiments.list", experiments.LIST, "/experiments/live"),
    Route("GET", "/experiments/new", "experiments.new", "experiments.create", experiment_writes.new),
    Route("POST", "/experiments", "experiments.create", "experiments.create", experiment_writes.create),
    Route(
        "POST", "/experiments/bulk/archive", "experiments.bulk.archive", "experiments.archive",
        experiment_bulk.archive,
    ),
    Route(
        "POST", "/experiments/bulk/unarchive", "experiments.bulk.unarchive", "experiments.unarchive",
        experiment_bulk.unarchive,
    ),
    Route(
        "POST", "/experiments/bulk/delete", "experiments.bulk.delete", "experiments.delete",
        experiment_bulk.delete,
    ),
    Route("GET", "/experiments/{id}", "experiments.detail", "experiments.get", experiments.detail),
    Route("GET", "/experiments/{id}/live", "experiments.live", "experiments.get", experiments.detail_live),
    Route("GET", "/experiments/{id}/raw", "experiments.raw", "experiments.get", experiments.raw),
    Route(
        "GET", "/experiments/{id}/commands", "experiments.commands", "experiments.get",
        experiments.commands,
    ),
    Route(
        "GET", "/experiments/{id}/download.{form}", "experiments.download", "experiments.get",
        experiments.download,
    ),
    Route(
        "POST", "/experiments/{id}/archive", "experiments.archive", "experiments.archive",
        experiment_writes.archive,
    ),
    Route(
        "POST", "/experiments/{id}/unarchive", "experiments.unarchive", "experiments.unarchive",
        experiment_writes.unarchive,
    ),
    Route(
        "GET", "/experiments/{id}/delete", "experiments.delete", "experiments.delete",
        experiment_writes.confirm_delete,
    ),
    Route(
        "POST", "/experiments/{id}/delete", "experiments.delete.submit", "experiments.delete",
        experiment_writes.delete,
    ),
    # What was done to many at once.
    Route("GET", "/operations/{id}", "operations.detail", SIGNED_IN, operations.detail),
    Route("GET", "/operations/{id}/live", "operations.live", SIGNED_IN, operations.live),
    Route("POST", "/operations/{id}/undo", "operations.undo", SIGNED_IN, operations.undo),
    # The audit trail.
    Route("GET", "/activity", "activity", "audit.list", activity.list_),
    Route("GET", "/activity/live", "activity.live", "audit.list", activity.live),
    # Tokens and users.
    Route("GET", "/access", "access", "tokens.list", access.tokens),
    Route("GET", "/access/users", "access.users", "users.list", access.users),
    Route("POST", "/access/tokens", "access.tokens.create", "tokens.create", access.create_token),
    Route("POST", "/access/tokens/{id}/revoke", "access.tokens.revoke", "tokens.revoke", access.revoke_token),
    Route("POST", "/access/users", "access.users.put", "users.put", access.put_user),
    Route("POST", "/access/sign-in-links", "access.links.create", "signInCodes.create", access.create_link),
)  # fmt: skip


def add_routes(app: web.Application) -> None:
    resources: dict[str, web.Resource] = {}
    for route in ROUTES:
        if route.path not in resources:
            resources[route.path] = app.router.add_resource(route.path)
        resource = resources[route.path]
        resource.add_route(route.method, route.handler)
        if route.method == "GET" and not route.path.endswith("/live"):
            resource.add_route("HEAD", route.handler)


def by_address() -> dict[tuple[str, str], Route]:
    """(method, path template) -> route."""
    return {(route.method, route.path): route for route in ROUTES}
