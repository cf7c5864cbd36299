"""What deploy/ says is true of the code: settings, modules, ports and metrics."""

from __future__ import annotations

import configparser
import json
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

import services.pods.collect.__main__ as collector
from services.jobs.runtime.port import GRACE
from services.pods.collect import resources
from shared.service.config import CONSOLE, PORTS, SETTINGS

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
FILES = sorted(path for path in DEPLOY.rglob("*") if path.is_file())
KNOWN_PORTS = {8700 + offset + extra for offset in PORTS.values() for extra in (0, 1, 2)}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_settings_exist(path: Path) -> None:
    named = set(re.findall(r"\bROUNDHOUSE_[A-Z_]+", path.read_text()))
    assert named <= {setting.variable for setting in SETTINGS}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_ports_are_ours(path: Path) -> None:
    assert {int(port) for port in re.findall(r"\b8[67]\d\d\b", path.read_text())} <= KNOWN_PORTS


def kubernetes() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DEPLOY / "kubernetes" / "roundhouse.yaml").read_text()))


def test_what_is_started_can_be() -> None:
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    modules = [service["command"][0] for name, service in compose["services"].items() if name != "mongo"]
    modules += [
        container["args"][0]
        for document in kubernetes()
        if document["kind"] == "Deployment"
        for container in document["spec"]["template"]["spec"]["containers"]
    ]
    served = ["admin_ui", *(f"services.{name}" for name in PORTS if name != CONSOLE)]
    assert sorted(modules) == sorted((*served, *served))
    for module in modules:
        assert find_spec(f"{module}.__main__") is not None


def test_kubernetes_objects_belong_together() -> None:
    documents = kubernetes()
    assert {document["metadata"]["namespace"] for document in documents} == {"roundhouse"}
    pods = {
        document["metadata"]["name"]: document["spec"]["template"]
        for document in documents
        if document["kind"] == "Deployment"
    }
    for service in (document for document in documents if document["kind"] == "Service"):
        pod = pods[service["spec"]["selector"]["app"]]
        assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
        names = {port["name"] for port in pod["spec"]["containers"][0]["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= names
    for pod in pods.values():
        volumes = {volume["name"] for volume in pod["spec"]["volumes"]}
        assert {mount["name"] for mount in pod["spec"]["containers"][0]["volumeMounts"]} == volumes


def test_jobs_have_one_writer_whose_pods_end_gently() -> None:
    """In containers; of systemd's units see below."""
    [jobs] = [
        document
        for document in kubernetes()
        if document["kind"] == "Deployment" and document["metadata"]["name"] == "jobs"
    ]
    assert (jobs["spec"]["replicas"], jobs["spec"]["strategy"]["type"]) == (1, "Recreate")
    pod = jobs["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] > GRACE
    assert {"name": "ROUNDHOUSE_JOBS_END_PODS", "value": "true"} in pod["containers"][0]["env"]
    service = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["jobs"]
    assert service["environment"]["ROUNDHOUSE_JOBS_END_PODS"] == "true"
    assert int(service["stop_grace_period"].removesuffix("s")) > GRACE


def test_a_restart_of_the_jobs_unit_touches_no_pod() -> None:
    unit = configparser.RawConfigParser(strict=False)
    unit.read_string((DEPLOY / "systemd" / "roundhouse@jobs.service.d" / "pods.conf").read_text())
    assert unit["Service"]["KillMode"] == "process"
    assert unit["Service"]["OOMPolicy"] == "continue"


def test_the_collector_may_read_what_it_reads() -> None:
    documents = list(yaml.safe_load_all((DEPLOY / "kubernetes" / "collector.yaml").read_text()))
    found = {document["kind"]: document for document in documents}
    granted = {
        (group, plural)
        for rule in found["ClusterRole"]["rules"]
        for group in rule["apiGroups"]
        for plural in rule["resources"]
    }
    assert granted == {(resource.group, resource.plural) for resource in resources.ALL}
    assert all(rule["verbs"] == ["get", "list", "watch"] for rule in found["ClusterRole"]["rules"])
    account = {"kind": "ServiceAccount", **found["ServiceAccount"]["metadata"]}
    assert found["ClusterRoleBinding"]["subjects"] == [account]
    assert found["ClusterRoleBinding"]["roleRef"]["name"] == found["ClusterRole"]["metadata"]["name"]
    pod = found["Deployment"]["spec"]["template"]["spec"]
    assert pod["serviceAccountName"] == account["name"]
    (container,) = pod["containers"]
    assert find_spec(f"{container['args'][0]}.__main__") is not None
    options = {option for parameter in collector.kubernetes.params for option in parameter.opts}
    assert {argument for argument in container["args"] if argument.startswith("--")} <= options
    assert {mount["name"] for mount in container["volumeMounts"]} == {one["name"] for one in pod["volumes"]}


@pytest.mark.parametrize("path", sorted((DEPLOY / "systemd").glob("*.service")), ids=lambda path: path.name)
def test_units_parse_and_restart(path: Path) -> None:
    unit = configparser.RawConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(path.read_text())
    assert re.search(r"-m (services\.%i|admin_ui)$", unit["Service"]["ExecStart"])
    assert unit["Service"]["Restart"] == "always"


def test_the_dashboard_shows_documented_metrics() -> None:
    board = json.loads((DEPLOY / "grafana" / "roundhouse.json").read_text())
    documented = (ROOT / "docs" / "operating.md").read_text()
    expressions = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    names = {name for text in expressions for name in re.findall(r"\b(\w+)\{", text)}
    assert len(names) >= 10
    for name in names:
        assert name.startswith("process_") or name.removesuffix("_bucket") in documented, name
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


def test_the_image_gets_what_it_copies() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied: set[str] = set()
    for line in (DEPLOY / "Dockerfile").read_text().splitlines():
        if line.startswith("COPY ") and "--from" not in line:
            copied |= set(line.split()[1:-1])
    assert copied == allowed
    assert all((ROOT / name).exists() for name in copied)
