"""`token jumpstarter`, `jumpstarter config` and `user` against a running service."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import jwt
import pytest
import yaml

from shared.pb.jumpstarter.client.v1 import client_pb2
from shared.pb.jumpstarter.client.v1.client_pb2_grpc import ClientServiceStub
from shared.pb.jumpstarter.v1 import jumpstarter_pb2
from shared.pb.jumpstarter.v1.jumpstarter_pb2_grpc import ControllerServiceStub
from tests.e2e.process import DEADLINE, Up

pytestmark = pytest.mark.xdist_group("cli-jumpstarter")

MANIFEST = """
clients:
  - {name: namespaces/lab/clients/ann}
exporters:
  - {name: namespaces/lab/exporters/bench-1, labels: {board: rpi}}
"""


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    data = tmp_path_factory.mktemp("cli") / "data"
    with Up(data, "--only", "jumpstarter", "--no-console") as process:
        process.ready()
        assert "2 changed" in good(process, "apply", "-f", "-", stdin=MANIFEST)
        yield process


def good(yard: Up, *arguments: str, stdin: str = "") -> str:
    result = yard.command(*arguments, stdin=stdin)
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


def bad(yard: Up, *arguments: str, code: int = 1, **variables: str) -> str:
    result = yard.command(*arguments, **variables)
    assert (result.returncode, result.stdout) == (code, "")
    assert "Traceback" not in result.stderr
    return result.stderr


def channel(config: dict[str, Any]) -> grpc.Channel:
    """As jmp opens it: TLS, with trust in the file's authority and nothing else."""
    authority = base64.b64decode(config["tls"]["ca"])
    return grpc.secure_channel(config["endpoint"], grpc.ssl_channel_credentials(authority))


def metadata(config: dict[str, Any], token: str = "") -> tuple[tuple[str, str], ...]:
    return (
        ("authorization", f"Bearer {token or config['token']}"),
        ("jumpstarter-kind", config["kind"].removesuffix("Config")),
        ("jumpstarter-namespace", config["metadata"]["namespace"]),
        ("jumpstarter-name", config["metadata"]["name"]),
    )


def listed(config: dict[str, Any], token: str = "") -> list[str]:
    """The exporters that the client of the file sees."""
    request = client_pb2.ListExportersRequest(parent="namespaces/lab")
    with channel(config) as open_:
        stub = ClientServiceStub(open_)
        answer = stub.ListExporters(request, metadata=metadata(config, token), timeout=DEADLINE)
    return [exporter.name for exporter in answer.exporters]


def test_the_file_of_a_client_is_all_that_jmp_needs(yard: Up) -> None:
    config = yaml.safe_load(good(yard, "jumpstarter", "config", "client", "lab/ann"))
    assert (config["apiVersion"], config["kind"]) == ("jumpstarter.dev/v1alpha1", "ClientConfig")
    assert config["metadata"] == {"namespace": "lab", "name": "ann"}
    assert config["endpoint"] == f"127.0.0.1:{yard.base_port + 22}"
    assert config["tls"]["insecure"] is False
    assert config["drivers"] == {"allow": [], "unsafe": True}
    assert listed(config) == ["namespaces/lab/exporters/bench-1"]


def test_a_token_is_printed_alone_and_can_be_revoked(yard: Up) -> None:
    text = good(yard, "token", "jumpstarter", "client", "lab/ann", "--ttl", "1h")
    assert text.count("\n") == 1
    claims = jwt.decode(text.strip(), options={"verify_signature": False})
    assert claims["sub"].startswith("client:lab:ann:")
    assert 3600 <= claims["exp"] - claims["iat"] <= 3601
    config = yaml.safe_load(good(yard, "jumpstarter", "config", "client", "lab/ann"))
    assert listed(config, text.strip())

    assert claims["jti"] in good(yard, "token", "list", "--subject", claims["sub"])
    assert good(yard, "token", "revoke", claims["jti"]) == f"revoked {claims['jti']} of {claims['sub']}\n"
    with pytest.raises(grpc.RpcError) as caught:
        listed(config, text.strip())
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert listed(config)


def test_the_file_of_an_exporter(yard: Up) -> None:
    text = good(yard, "jumpstarter", "config", "exporter", "lab/bench-1")
    config = yaml.safe_load(text)
    assert (config["kind"], config["export"]) == ("ExporterConfig", {})
    assert "#   power: {type: jumpstarter_driver_power.driver.MockPower}\n" in text
    with channel(config) as open_:
        stub = ControllerServiceStub(open_)
        request = jumpstarter_pb2.RegisterRequest()
        assert stub.Register(request, metadata=metadata(config), timeout=DEADLINE).uuid

    drivers = ["power=jumpstarter_driver_power.driver.MockPower", "storage=a.b.C=D"]
    arguments = [argument for driver in drivers for argument in ("--driver", driver)]
    config = yaml.safe_load(good(yard, "jumpstarter", "config", "exporter", "lab/bench-1", *arguments))
    assert config["export"] == {
        "power": {"type": "jumpstarter_driver_power.driver.MockPower"},
        "storage": {"type": "a.b.C=D"},
    }
    assert set(config) == {"apiVersion", "kind", "metadata", "endpoint", "token", "tls", "export"}


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["client", "ann"], 2, "'ann' is not NAMESPACE/NAME"),
        (["robot", "lab/ann"], 2, "'robot'"),
        (["client", "lab/Ann"], 1, "DNS-1123"),
        (["client", "lab/nobody"], 1, "store it first, with a manifest that names it under 'clients'"),
        (["exporter", "lab/ann"], 1, "NOT_FOUND"),
        (["client", "lab/ann", "--ttl", "500d"], 1, "ttl"),
        (["client", "lab/ann", "--ttl", "soon"], 2, "is not a duration"),
    ],
)
def test_what_makes_no_sense_is_refused(yard: Up, arguments: list[str], code: int, said: str) -> None:
    command = ["token", "jumpstarter"] if arguments[0] == "client" else ["jumpstarter", "config"]
    assert said in bad(yard, *command, *arguments, code=code)


def test_usage_of_drivers(yard: Up) -> None:
    config = ["jumpstarter", "config"]
    assert "is for exporters" in bad(yard, *config, "client", "lab/ann", "--driver", "a=b", code=2)
    assert "NAME=TYPE" in bad(yard, *config, "exporter", "lab/bench-1", "--driver", "power", code=2)


def test_the_service_must_be_part_of_the_set(yard: Up) -> None:
    said = bad(yard, "token", "jumpstarter", "client", "lab/ann", ROUNDHOUSE_ONLY="pipelines")
    assert said == "error: the jumpstarter service is not part of this set; see --only\n"


def test_an_operator_issues_tokens_where_an_admin_lets_it(yard: Up, tmp_path: Path) -> None:
    file = tmp_path / "oli.token"
    file.write_text(good(yard, "token", "create", "--subject", "oli", "--role", "operator"))
    as_oli = ["token", "jumpstarter", "client", "lab/ann", "--token-file", str(file)]
    refused = bad(yard, *as_oli)
    assert "PERMISSION_DENIED" in refused
    # What it says is what helps, once the user is stored.
    assert "roundhouse user put oli --add-namespace lab" in refused
    assert "--role" in bad(yard, "user", "put", "oli", "--add-namespace", "lab", code=2)
    put = ["user", "put", "oli"]
    assert good(yard, *put, "--role", "operator") == "oli: operator; namespaces: none\n"
    assert good(yard, *put, "--add-namespace", "lab") == "oli: operator; namespaces: lab\n"
    assert good(yard, *as_oli).count(".") == 2

    more = ["--add-namespace", "other", "--remove-namespace", "lab", "--role", "viewer"]
    assert good(yard, *put, *more) == "oli: viewer; namespaces: other\n"
    assert good(yard, *put, "--disable") == "oli: viewer, disabled; namespaces: other\n"
    rows = [line.split() for line in good(yard, "user", "list").splitlines()]
    assert rows == [["SUBJECT", "ROLE", "NAMESPACES", "DISABLED"], ["oli", "viewer", "other", "yes"]]
    assert "UNAUTHENTICATED" in bad(yard, *as_oli)
    assert good(yard, *put, "--enable") == "oli: viewer; namespaces: other\n"
