"""Imports point one way: who may know whom."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Package -> what it may import of ours, beside itself. Longest prefix decides.
ALLOWED: dict[str, set[str]] = {
    "shared.errors": set(),
    "shared.storage": {"shared.errors"},
    "shared.query": {"shared.errors", "shared.storage", "shared.pb"},
    "shared.resource": {"shared.errors", "shared.storage", "shared.query"},
    "shared.watch": {"shared.errors", "shared.storage", "shared.query", "shared.resource"},
    "shared.auth": {"shared.errors", "shared.storage", "shared.query", "shared.watch", "shared.pb"},
    "shared.rpc": {"shared.errors", "shared.storage", "shared.auth", "shared.service.config"},
    "shared.rest": {"shared.errors", "shared.rpc"},
    "shared.admin": {"shared.errors", "shared.auth", "shared.storage", "shared.query", "shared.resource", "shared.watch", "shared.rpc", "shared.pb"},
    "shared.service": {"shared"},
    "shared.service.config": {"shared.errors"},
    "shared.cli": {"shared", "deploy", "services", "admin_ui"},
    "services": {"shared"},
    "admin_ui": {"shared.pb", "shared.rpc", "shared.auth", "shared.service", "shared.errors", "shared.admin.document", "shared.admin.stated"},
}  # fmt: skip
# Service -> its rooms, and what of the service each may import beside itself. HALL is what lies in the
# service's folder itself, without the composition root, which no room knows.
HALL = ""
ROOMS: dict[str, dict[str, set[str]]] = {
    "services.jobs": {
        HALL: set(),
        "runtime": set(),
        "engine": {HALL, "runtime.port"},
        "api": {HALL, "engine", "runtime.port"},
    },
    "services.jumpstarter": {
        HALL: set(),
        "leasing": {HALL},
        "api": {HALL, "leasing"},
        "simulation": {HALL},
    },
}
ROOT_MODULES = ("__main__", "service")
# Libraries that only the edges may know.
TRANSPORTS = ("grpc", "aiohttp")
NO_TRANSPORT = ("shared.errors", "shared.storage", "shared.query", "shared.resource", "shared.watch")


def modules() -> Iterator[tuple[str, Path]]:
    for top in ("shared", "services", "admin_ui"):
        for path in sorted((ROOT / top).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            if parts[:2] in (("shared", "pb"), ("shared", "protos")):
                continue
            yield ".".join(part for part in parts if part != "__init__"), path


MODULES = [pytest.param(module, path, id=module) for module, path in modules()]


def imports(path: Path) -> Iterator[str]:
    """Absolute names that a module imports, `from x import y` as x.y."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import hides where it points"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def rule(module: str) -> str:
    return max((package for package in ALLOWED if within(module, package)), key=len, default="")


def test_there_are_modules_to_check() -> None:
    assert len(list(modules())) > 50


@pytest.mark.parametrize(("module", "path"), MODULES)
def test_a_module_imports_only_what_its_place_allows(module: str, path: Path) -> None:
    own = rule(module)
    for name in imports(path):
        if name.split(".")[0] not in ("shared", "services", "admin_ui", "tests", "deploy"):
            continue
        assert own, f"{module} has no rule"
        allowed = ALLOWED[own] | {own}
        assert any(within(name, package) for package in allowed), f"{module} may not import {name}"


@pytest.mark.parametrize(("module", "path"), MODULES)
def test_the_inside_knows_no_transport(module: str, path: Path) -> None:
    if not any(within(module, package) for package in NO_TRANSPORT):
        return
    assert not [name for name in imports(path) if name.split(".")[0] in TRANSPORTS]


def test_services_do_not_know_each_other() -> None:
    for module, path in modules():
        parts = module.split(".")
        if parts[0] != "services" or len(parts) < 3:
            continue
        for name in imports(path):
            if name.startswith("services."):
                assert name.split(".")[1] == parts[1], f"{module} imports {name}"


@pytest.mark.parametrize("service", ROOMS)
def test_each_folder_of_a_service_is_a_room(service: str) -> None:
    folder = ROOT.joinpath(*service.split("."))
    assert {path.parent.name for path in folder.glob("*/__init__.py")} == ROOMS[service].keys() - {HALL}


def known(name: str, service: str, allowed: set[str]) -> bool:
    """Whether a room that may import `allowed` may import that name of the service."""
    inside = name.removeprefix(f"{service}.")
    if inside.split(".")[0] in ROOMS[service]:
        return any(within(inside, place) for place in allowed)
    return HALL in allowed and inside.split(".")[0] not in ROOT_MODULES


@pytest.mark.parametrize(("module", "path"), MODULES)
def test_rooms_of_a_service_know_each_other_one_way(module: str, path: Path) -> None:
    for service, rooms in ROOMS.items():
        first = module.removeprefix(f"{service}.").split(".")[0]
        if not module.startswith(f"{service}.") or first in ROOT_MODULES:
            continue
        room = first if first in rooms else HALL
        for name in imports(path):
            if within(name, service):
                assert known(name, service, rooms[room] | {room}), f"{module} may not import {name}"


def test_motor_stays_in_one_place() -> None:
    users = {module for module, path in modules() if any(within(name, "motor") for name in imports(path))}
    assert len(users) <= 1 and all(module.startswith("shared.storage.mongo") for module in users), users
