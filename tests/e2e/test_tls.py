"""The services, the console and the command line over TLS."""

from __future__ import annotations

import ssl
import urllib.request
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.e2e.process import HOST, Up, roundhouse

Key = ec.EllipticCurvePrivateKey


def name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def certificate(
    subject: str,
    key: Key,
    issuer: str,
    signer: Key,
    *,
    ca: bool,
) -> bytes:
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(HOST))]), critical=False)
        .sign(signer, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM)


@pytest.fixture
def tls(tmp_path: Path) -> dict[str, str]:
    """The settings, with files of a fresh authority."""
    authority, server = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    files = {
        "ca": certificate("authority", authority, "authority", authority, ca=True),
        "cert": certificate("server", server, "authority", authority, ca=False),
        "key": server.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
    }
    for kind, content in files.items():
        (tmp_path / f"{kind}.pem").write_bytes(content)
    return {f"ROUNDHOUSE_TLS_{kind.upper()}": str(tmp_path / f"{kind}.pem") for kind in files}


def test_everything_speaks_tls(tmp_path: Path, tls: dict[str, str]) -> None:
    with Up(tmp_path / "data", base_port=None, **tls) as up:
        up.ready()
        url = f"https://{HOST}:{up.base_port}"
        up.wait_for(rf"console +{url}/sign-in\?code=\S+")
        trust = ssl.create_default_context(cafile=tls["ROUNDHOUSE_TLS_CA"])
        with urllib.request.urlopen(f"{url}/sign-in", context=trust, timeout=20) as page:
            assert page.status == 200

        listed = up.command("list", "experiments", **tls)
        assert (listed.returncode, listed.stderr) == (0, "")
        assert "Default" in listed.stdout
        doctor = up.command("doctor", **tls)
        assert doctor.returncode == 0, doctor.stdout
        assert "cert.pem until " in doctor.stdout
        untrusting = up.command("list", "experiments")
        assert untrusting.returncode == 1
        assert untrusting.stderr.startswith("error: UNAVAILABLE")
        assert up.interrupt() == 0


def test_doctor_finds_a_key_of_another_certificate(tmp_path: Path, tls: dict[str, str]) -> None:
    other = ec.generate_private_key(ec.SECP256R1())
    Path(tls["ROUNDHOUSE_TLS_KEY"]).write_bytes(
        other.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    result = roundhouse("doctor", "--data", str(tmp_path / "data"), "--base-port", "9", **tls)
    assert result.returncode == 1
    assert "key.pem is not the key of " in result.stdout
