"""Every RPC of every service stands in the one table of permissions, and nothing else does."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
from google.protobuf.descriptor import FileDescriptor
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

import shared.pb
from shared.auth.permissions import APART, EVERYTHING, GRANTS, PERMISSIONS, PUBLIC, ROLE_NAMES, ROLES
from shared.rpc import method

# What anyone may call, token or not. Longer lists are a decision: write it down here and in
# docs/security.md.
OPEN = {
    "/api.HealthzService/GetHealthz",
    "/kubeflow.pipelines.backend.api.v2beta1.HealthzService/GetHealthz",
    "/roundhouse.admin.v1.AccessService/RedeemSignInCode",
    "/jumpstarter.v1.RouterService/Stream",
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/List",
    "/grpc.health.v1.Health/Watch",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
}


def paths(file: FileDescriptor) -> set[str]:
    return {
        f"/{service.full_name}/{rpc.name}"
        for service in file.services_by_name.values()
        for rpc in service.methods
    }


def our_rpcs() -> set[str]:
    """Of every generated stub."""
    root = Path(next(iter(shared.pb.__path__)))
    found: set[str] = set()
    for path in sorted(root.rglob("*_pb2.py")):
        name = ".".join(("shared.pb", *path.relative_to(root).with_suffix("").parts))
        found |= paths(importlib.import_module(name).DESCRIPTOR)
    return found


def library_rpcs() -> set[str]:
    """Served by the gRPC library. It ships the older name of reflection only; both are served."""
    old = paths(reflection_pb2.DESCRIPTOR)
    return paths(health_pb2.DESCRIPTOR) | old | {path.replace(".v1alpha.", ".v1.") for path in old}


def test_every_rpc_has_a_permission() -> None:
    rpcs = our_rpcs()
    assert len(rpcs) >= 38
    assert rpcs - PERMISSIONS.keys() == set()
    assert library_rpcs() - PERMISSIONS.keys() == set()


def test_the_table_names_no_rpc_that_does_not_exist() -> None:
    assert PERMISSIONS.keys() - our_rpcs() - library_rpcs() == set()


def test_only_these_need_no_token() -> None:
    assert {path for path, permission in PERMISSIONS.items() if permission == PUBLIC} == OPEN
    assert PUBLIC == method.PUBLIC


def test_every_permission_is_granted_to_a_role() -> None:
    asked_for = {permission for permission in PERMISSIONS.values() if permission != PUBLIC}
    # One belongs to no RPC: it makes headers count that name another user.
    assert EVERYTHING - asked_for == {"impersonate"}
    assert asked_for - EVERYTHING == set()
    assert set(GRANTS.values()) == set(ROLE_NAMES)


def asked_for_by(*services: str) -> set[str]:
    return {permission for path, permission in PERMISSIONS.items() if path.split("/")[1] in services}


def test_clients_and_exporters_may_what_their_rpcs_ask_for() -> None:
    lab = asked_for_by("jumpstarter.client.v1.ClientService", "jumpstarter.v1.ControllerService")
    client, exporter = APART["jumpstarter.client"], APART["jumpstarter.exporter"]
    assert client | exporter == lab
    # ReleaseLease is for both.
    assert client & exporter == {"leases.release"}
    assert asked_for_by("jumpstarter.client.v1.ClientService") <= client
    # Staff acts as a client, never as an exporter.
    assert lab & ROLES["admin"] == client


def test_reads_are_for_all_and_writes_are_not() -> None:
    """By the names of the methods, so that a new one in the wrong column is noticed."""
    reads = ("Get", "BatchGet", "List", "Export", "History", "Watch", "WhoAmI", "SignOut")
    reads += ("Query", "Lookup", "Count", "Browse", "ReadLog", "DownloadLog", "Cancel")  # Cancel ends a watch
    for path, permission in PERMISSIONS.items():
        name = path.rsplit("/", 1)[1]
        if permission == PUBLIC or permission.split(".")[0] in ("audit", "tokens", "users"):
            continue
        if permission not in GRANTS:  # an exporter's
            continue
        assert (GRANTS[permission] == "viewer") == name.startswith(reads), path


def test_the_table_cannot_be_changed_at_run_time() -> None:
    with pytest.raises(TypeError):
        PERMISSIONS["/a.B/C"] = PUBLIC  # type: ignore[index]
