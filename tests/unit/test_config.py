"""Settings: parsed once, wrong ones named, all at once."""

from __future__ import annotations

from datetime import timedelta

import pytest

from shared.errors import InvalidArgument
from shared.service.config import SETTINGS, Config


def test_the_defaults_parse() -> None:
    config = Config.load({})
    assert {setting.name for setting in SETTINGS} == set(vars(config)["_values"])
    assert config.base_port == 8700
    assert config.audit_age == timedelta(days=400)


def test_ports_are_counted_from_the_base() -> None:
    config = Config.load({"ROUNDHOUSE_BASE_PORT": "9000"})
    assert config.ports("console") == (9000, 9000)
    assert config.ports("pipelines") == (9040, 9041)
    assert config.ports("pods") == (9050, 9051)


def test_a_port_can_be_set_alone() -> None:
    config = Config.load({"ROUNDHOUSE_GRPC_PORT": "0", "ROUNDHOUSE_HTTP_PORT": "1234"})
    assert config.ports("pipelines") == (0, 1234)


def test_the_tls_port_follows_the_grpc_port() -> None:
    assert Config.load({}).tls_port("jumpstarter") == 8722
    assert Config.load({}).tls_port("meta") is None
    for grpc, tls in (("0", 0), ("9000", 9002)):
        assert Config.load({"ROUNDHOUSE_GRPC_PORT": grpc}).tls_port("jumpstarter") == tls
    own = {"ROUNDHOUSE_GRPC_PORT": "9000", "ROUNDHOUSE_JUMPSTARTER_TLS_PORT": "0"}
    assert Config.load(own).tls_port("jumpstarter") == 0


@pytest.mark.parametrize(
    ("host", "endpoint"),
    [("127.0.0.1", "127.0.0.1:1"), ("0.0.0.0", "localhost:1"), ("::", "localhost:1"), ("::1", "[::1]:1")],
)
def test_clients_are_told_the_host_that_is_bound(host: str, endpoint: str) -> None:
    config = Config.load({"ROUNDHOUSE_HOST": host})
    assert config.endpoint("jumpstarter", 1) == endpoint
    own = config.replace(jumpstarter_endpoint="lab.example:443")
    assert own.endpoint("jumpstarter", 1) == "lab.example:443"


def test_everything_wrong_is_named_at_once() -> None:
    with pytest.raises(InvalidArgument) as caught:
        Config.load({"ROUNDHOUSE_BASE_PORT": "70000", "ROUNDHOUSE_AUTH": "maybe", "ROUNDHOUSE_TYPO": "1"})
    assert {v.field for v in caught.value.violations} == {
        "ROUNDHOUSE_BASE_PORT",
        "ROUNDHOUSE_AUTH",
        "ROUNDHOUSE_TYPO",
    }


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [("BASE_PORT", "http", "is not a whole number"), ("JOBS_MAX_PODS", "1.5", "is not a whole number"),
     ("JOBS_CPU", "all", "is not a number")],
)  # fmt: skip
def test_what_is_no_number_is_said_in_words(name: str, text: str, said: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        Config.load({f"ROUNDHOUSE_{name}": text})
    assert [(v.field, v.description) for v in caught.value.violations] == [
        (f"ROUNDHOUSE_{name}", f"{text!r} {said}")
    ]


@pytest.mark.parametrize("text", ["5", "5 parsecs", "", "-1s", "1.s", "s"])
def test_a_duration_needs_a_number_and_a_unit(text: str) -> None:
    with pytest.raises(InvalidArgument, match="ROUNDHOUSE_STOP_GRACE"):
        Config.load({"ROUNDHOUSE_STOP_GRACE": text})


@pytest.mark.parametrize(("text", "seconds"), [("500ms", 0.5), ("1.5s", 1.5), ("2m", 120), ("1d", 86400)])
def test_durations(text: str, seconds: float) -> None:
    assert Config.load({"ROUNDHOUSE_STOP_GRACE": text}).stop_grace.total_seconds() == seconds


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GRPC_PORT", "x"),
        ("HTTP_PORT", "-1"),
        ("ONLY", "pipelines,nothing"),
        ("LOG_LEVEL", "loud"),
        ("LOG_FORMAT", "xml"),
        ("RETENTION_AGE", "9" * 400 + "d"),
        ("AUDIT_AGE", "99999999999d"),
        ("MAX_STREAMS", "-1"),
        ("MAX_MESSAGE_BYTES", "many"),
        ("RETENTION_CHANGES", "-1"),
        ("BASE_PORT", "65500"),
        ("JUMPSTARTER_ENDPOINT", "lab.example"),
        ("JUMPSTARTER_ENDPOINT", ":8722"),
        ("JUMPSTARTER_ENDPOINT", "lab.example:0"),
        ("JUMPSTARTER_ENDPOINT", "https://lab.example:8722"),
        ("JUMPSTARTER_ENDPOINT", "fd00::1:8722"),
        ("HOST", ""),
        ("DATA", ""),
        ("STORE", ""),
    ],
)
def test_a_value_that_means_nothing_is_named(name: str, value: str) -> None:
    with pytest.raises(InvalidArgument, match=f"ROUNDHOUSE_{name}"):
        Config.load({f"ROUNDHOUSE_{name}": value})


def test_tls_needs_both_files() -> None:
    with pytest.raises(InvalidArgument, match="ROUNDHOUSE_TLS_KEY"):
        Config.load({"ROUNDHOUSE_TLS_CERT": "server.pem"})


def test_other_variables_are_left_alone() -> None:
    assert Config.load({"HOME": "/", "PATH": ""}).host == "127.0.0.1"


def test_settings_cannot_change_once_read() -> None:
    with pytest.raises(AttributeError):
        Config.load({}).host = "0.0.0.0"


def test_only_limits_what_is_enabled() -> None:
    config = Config.load({"ROUNDHOUSE_ONLY": "pipelines, console"})
    assert config.enabled("pipelines") and not config.enabled("meta")
    assert Config.load({}).enabled("meta")


def test_labels_and_what_replaces_them() -> None:
    found = Config.load(
        {
            "ROUNDHOUSE_JUMPSTARTER_HIDDEN_LABELS": "a, x.io/b,",
            "ROUNDHOUSE_JUMPSTARTER_DEPRECATED_LABELS": "old=use new, older = , x.io/c",
        }
    )
    assert found.jumpstarter_hidden_labels == {"a", "x.io/b"}
    assert found.jumpstarter_deprecated_labels == {"old": "use new", "older": "", "x.io/c": ""}
    with pytest.raises(InvalidArgument, match="without a key"):
        Config.load({"ROUNDHOUSE_JUMPSTARTER_DEPRECATED_LABELS": "=new"})
