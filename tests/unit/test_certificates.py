"""The suite's own certificate: made once, renewed in time, and never instead of somebody's file."""

from __future__ import annotations

import ssl
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from shared.service import certificates
from shared.service.certificates import CertificateFault, Certificates, ServerCertificate, ensure
from shared.service.config import Config

NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)
FILES = {"ca.pem", "ca.key", "server.pem", "server.key"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "tls"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name in FILES}


def loaded(pem: bytes) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(pem)


def hosts(found: ServerCertificate) -> set[str]:
    names = loaded(found.chain)[0].extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))}


def handshake(found: ServerCertificate, host: str, folder: Path) -> None:
    """A TLS handshake, verified as strictly as Python can. Raises ssl.SSLError."""
    client = ssl.create_default_context(cadata=found.authority.decode())
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    (folder / "chain").write_bytes(found.chain)
    (folder / "key").write_bytes(found.key)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / "chain", folder / "key")
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    one = client.wrap_bio(to_client, to_server, server_hostname=host)
    other = server.wrap_bio(to_server, to_client, server_side=True)
    ends = [one, other]
    while ends:
        for end in tuple(ends):
            try:
                end.do_handshake()
                ends.remove(end)
            except ssl.SSLWantReadError:
                continue


def test_what_is_made_is_good_for_local_clients(folder: Path, tmp_path: Path) -> None:
    found = ensure(folder, ["yard.example", "10.1.2.3", "0.0.0.0", "::", ""], NOW)
    assert contents(folder).keys() == FILES
    assert hosts(found) == {"localhost", "127.0.0.1", "yard.example", "10.1.2.3"}
    for host in hosts(found):
        handshake(found, host, tmp_path)
    with pytest.raises(ssl.SSLError, match="Hostname mismatch"):
        handshake(found, "elsewhere.example", tmp_path)
    server, authority = loaded(found.chain)
    assert loaded(found.authority) == [authority]
    assert server.not_valid_before_utc < NOW < server.not_valid_after_utc < authority.not_valid_after_utc


def test_nobody_else_may_read_the_keys(folder: Path) -> None:
    ensure(folder, [], NOW)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert (modes["ca.key"], modes["server.key"]) == (0o600, 0o600)
    assert (modes["ca.pem"], modes["server.pem"]) == (0o644, 0o644)


def test_a_second_start_changes_nothing(folder: Path) -> None:
    first = ensure(folder, ["yard.example"], NOW)
    before = contents(folder)
    assert ensure(folder, [], NOW + 300 * DAY) == first
    assert contents(folder) == before


def test_processes_that_start_at_once_end_up_with_the_same(folder: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: ensure(folder, [], NOW), range(32)))
    assert len(set(found)) == 1
    assert found[0].chain == (folder / "server.pem").read_bytes()


def test_it_is_renewed_before_it_expires(folder: Path, tmp_path: Path) -> None:
    first = ensure(folder, ["yard.example"], NOW - 336 * DAY)
    assert ensure(folder, [], NOW - 2 * DAY) == first
    second = ensure(folder, [], NOW)
    assert loaded(second.chain)[0].not_valid_after_utc == NOW + 365 * DAY
    # What clients trust, and which key the server has, stays.
    assert (second.authority, second.key) == (first.authority, first.key)
    assert hosts(second) == hosts(first)
    handshake(second, "yard.example", tmp_path)


def test_the_authority_is_renewed_under_the_same_key(folder: Path, tmp_path: Path) -> None:
    first = ensure(folder, [], NOW - 3640 * DAY)
    second = ensure(folder, [], NOW)
    assert first.authority != second.authority
    assert loaded(first.authority)[0].public_key() == loaded(second.authority)[0].public_key()
    handshake(second, "localhost", tmp_path)
    # Clients that trust the old one still connect.
    leaf = second.chain.partition(b"-----END CERTIFICATE-----\n")
    handshake(ServerCertificate(leaf[0] + leaf[1], second.key, first.authority), "localhost", tmp_path)


def test_a_host_that_is_missing_is_added(folder: Path) -> None:
    ensure(folder, ["one.example"], NOW)
    found = ensure(folder, ["two.example"], NOW)
    assert hosts(found) == {"localhost", "127.0.0.1", "one.example", "two.example"}
    assert ensure(folder, ["one.example"], NOW) == found


def test_what_is_lost_is_made_anew_from_what_is_left(folder: Path, tmp_path: Path) -> None:
    first = ensure(folder, [], NOW)
    (folder / "ca.pem").unlink()
    second = ensure(folder, [], NOW)
    assert loaded(second.authority)[0].public_key() == loaded(first.authority)[0].public_key()
    (folder / "server.pem").unlink()
    third = ensure(folder, [], NOW)
    assert (third.key, third.authority) == (first.key, second.authority)
    handshake(third, "localhost", tmp_path)


# -- files of other people


def pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def theirs(key: ec.EllipticCurvePrivateKey, *, days: int = 90, ca: bool = False) -> bytes:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "theirs")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW - 365 * DAY)
        .not_valid_after(NOW + days * DAY)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
    )
    if ca:
        made = made.add_extension(
            x509.KeyUsage(True, False, False, False, False, True, True, False, False), critical=True
        )
    return made.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


@pytest.fixture
def key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@pytest.fixture
def put(folder: Path) -> Iterator[dict[str, bytes]]:
    """Files that people put there; none is ever changed."""
    files: dict[str, bytes] = {}
    yield files
    assert {name: (folder / name).read_bytes() for name in files} == files


def place(folder: Path, put: dict[str, bytes], **files: bytes) -> None:
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        name = name.replace("_", ".")
        (folder / name).write_bytes(content)
        put[name] = content


@pytest.mark.parametrize("days", [90, 3, -3])
def test_their_server_certificate_is_used_as_it_is(
    folder: Path, put: dict[str, bytes], key: ec.EllipticCurvePrivateKey, days: int
) -> None:
    place(folder, put, server_pem=theirs(key, days=days), server_key=pem(key))
    found = ensure(folder, ["yard.example"], NOW)
    assert found == ServerCertificate(put["server.pem"], put["server.key"], b"")
    assert contents(folder).keys() == {"server.pem", "server.key"}
    folder.chmod(0o500)
    assert ensure(folder, ["yard.example"], NOW) == found


def test_their_authority_is_shown_with_their_certificate(
    folder: Path, put: dict[str, bytes], key: ec.EllipticCurvePrivateKey
) -> None:
    authority = theirs(key, ca=True)
    place(folder, put, server_pem=theirs(key), server_key=pem(key), ca_pem=authority)
    assert ensure(folder, [], NOW).authority == authority


def test_their_authority_signs(
    folder: Path, tmp_path: Path, put: dict[str, bytes], key: ec.EllipticCurvePrivateKey
) -> None:
    place(folder, put, ca_pem=theirs(key, ca=True), ca_key=pem(key))
    found = ensure(folder, [], NOW)
    assert found.authority == put["ca.pem"]
    assert loaded(found.chain)[0].not_valid_after_utc == NOW + 90 * DAY
    handshake(found, "localhost", tmp_path)


def test_their_key_gets_a_certificate(
    folder: Path, tmp_path: Path, put: dict[str, bytes], key: ec.EllipticCurvePrivateKey
) -> None:
    place(folder, put, server_key=pem(key))
    handshake(ensure(folder, [], NOW), "localhost", tmp_path)


def test_files_that_do_not_fit_are_named(
    folder: Path, put: dict[str, bytes], key: ec.EllipticCurvePrivateKey
) -> None:
    other = ec.generate_private_key(ec.SECP256R1())
    place(folder, put, server_pem=theirs(key))
    with pytest.raises(CertificateFault, match=r"server\.key is missing"):
        ensure(folder, [], NOW)
    place(folder, put, server_key=pem(other))
    with pytest.raises(CertificateFault, match=r"server\.key is not the key of .*server\.pem"):
        ensure(folder, [], NOW)
    place(folder, put, server_key=b"no key")
    with pytest.raises(CertificateFault, match=r"server\.key holds no PEM key"):
        ensure(folder, [], NOW)
    place(folder, put, server_pem=b"no certificate")
    with pytest.raises(CertificateFault, match=r"server\.pem holds no PEM certificate"):
        ensure(folder, [], NOW)


def test_an_authority_needs_its_key_to_sign(
    folder: Path, put: dict[str, bytes], key: ec.EllipticCurvePrivateKey
) -> None:
    place(folder, put, ca_pem=theirs(key, ca=True))
    with pytest.raises(CertificateFault, match=r"ca\.key is missing"):
        ensure(folder, [], NOW)
    place(folder, put, ca_key=pem(ec.generate_private_key(ec.SECP256R1())))
    with pytest.raises(CertificateFault, match=r"ca\.key is not the key of"):
        ensure(folder, [], NOW)


# -- in use


def test_changed_files_count_without_a_restart(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = Certificates(lambda: ensure(folder, [], NOW))
    first = found.current
    assert found._fetch() is None
    monkeypatch.setattr(certificates, "_LOOK", -1.0)
    found._look_at = 0.0
    assert found._fetch() is None
    ensure(folder, ["yard.example"], NOW)
    assert found._fetch() is not None
    assert found.current != first and "yard.example" in hosts(found.current)
    (folder / "server.key").write_bytes(b"broken")
    assert found._fetch() is None


def test_the_settings_come_first(tmp_path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    config = Config.load({}, data=tmp_path, host="0.0.0.0")
    own = certificates.configured(config, "[fd00::1]:8722")
    assert hosts(own) == {"localhost", "127.0.0.1", "fd00::1"}
    (tmp_path / "cert").write_bytes(theirs(key))
    (tmp_path / "key").write_bytes(pem(key))
    files = config.replace(tls_cert=str(tmp_path / "cert"), tls_key=str(tmp_path / "key"))
    given = certificates.configured(files, "localhost:8722")
    assert given == ServerCertificate((tmp_path / "cert").read_bytes(), pem(key), b"")
    trusted = files.replace(tls_ca=str(tmp_path / "cert"))
    assert certificates.configured(trusted, "localhost:8722").authority == given.chain
