"""The suite's own server certificate: an authority and what it signed, in `DATA/tls/`.

    ca.pem      the authority's certificate, for clients to trust      ca.key      its key (0600)
    server.pem  the server's certificate, then the authority's         server.key  its key (0600)

Each file is made when it is missing. One that is there is used: people may put a certificate and a
key of their own there, or an authority that signs. Only certificates of ours are ever replaced: a
server certificate before it expires and when it lacks a host, under the same key.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from shared.auth.keys import sync_directory, write_private
from shared.service.config import WILDCARDS, Config

log = logging.getLogger(__name__)

# Every server certificate has these.
LOCAL_HOSTS: Final = ("localhost", "127.0.0.1")
_AUTHORITY_DAYS: Final = 3650
_SERVER_DAYS: Final = 365
RENEW_BEFORE: Final = timedelta(days=30)
# Clients' clocks may be late.
_SKEW: Final = timedelta(days=1)
# Tell certificates of ours, by their subject.
_AUTHORITY: Final = "Roundhouse authority"
_SERVER: Final = "Roundhouse server"
# Seconds until the files are looked at again, which happens when somebody connects.
_LOOK: Final = 60.0

Key = CertificateIssuerPrivateKeyTypes


class CertificateFault(Exception):
    """Files that cannot serve TLS. Names them and the remedy."""


@dataclass(frozen=True, slots=True)
class ServerCertificate:
    """PEM. `authority` is what clients are to trust; empty: those that their system trusts."""

    chain: bytes
    key: bytes = field(repr=False)
    authority: bytes = b""


def ensure(directory: Path, hosts: Iterable[str], now: datetime | None = None) -> ServerCertificate:
    """The certificate of `directory`, good for LOCAL_HOSTS and `hosts` (names or addresses; wildcards
    are left out). Makes and renews what is ours.

    Several processes may do this at once: they end up with the same files. Raises CertificateFault
    and OSError.
    """
    now = now or datetime.now(UTC)
    wanted = {*LOCAL_HOSTS, *(host for host in hosts if host and host not in WILDCARDS)}
    folder = _Folder(directory)
    if (found := folder.usable(wanted, now)) is not None:
        return found
    directory.mkdir(parents=True, exist_ok=True)
    with _locked(directory):
        # A peer may have been first.
        return folder.usable(wanted, now) or folder.issue(wanted, now)


def configured(config: Config, endpoint: str) -> ServerCertificate:
    """Of the files that the settings name, else of DATA/tls. `endpoint` is the host:port that clients
    call. Raises CertificateFault and OSError."""
    if not config.tls_cert:
        return ensure(config.data / "tls", [config.host, endpoint.rpartition(":")[0].strip("[]")])
    authority = Path(config.tls_ca).read_bytes() if config.tls_ca else b""
    return ServerCertificate(Path(config.tls_cert).read_bytes(), Path(config.tls_key).read_bytes(), authority)


class Certificates:
    """A certificate in use. It is loaded anew once a minute at most, when somebody connects, so that
    files that were renewed count without a restart."""

    def __init__(self, load: Callable[[], ServerCertificate]) -> None:
        """Raises what `load` does."""
        self._load = load
        self._lock = threading.Lock()
        self._look_at = time.monotonic() + _LOOK
        self.current = load()

    def credentials(self) -> grpc.ServerCredentials:
        fetch: Any = self._fetch  # None is allowed, which the stubs do not know
        return grpc.dynamic_ssl_server_credentials(_configuration(self.current), fetch)

    def _fetch(self) -> grpc.ServerCertificateConfiguration | None:
        """What the next handshake is to use, None for the same. Called on gRPC's threads."""
        with self._lock:
            if time.monotonic() < self._look_at:
                return None
            self._look_at = time.monotonic() + _LOOK
            try:
                found = self._load()
            except (CertificateFault, OSError) as error:
                log.warning("the old certificate stays in use", extra={"error": str(error)})
                return None
            if found == self.current:
                return None
            self.current = found
            log.info("a new certificate is in use")
            return _configuration(found)


def _configuration(found: ServerCertificate) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(found.key, found.chain)])


class _Folder:
    """The four files."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._ca_pem, self._ca_key = directory / "ca.pem", directory / "ca.key"
        self._server_pem, self._server_key = directory / "server.pem", directory / "server.key"

    def usable(self, hosts: set[str], now: datetime) -> ServerCertificate | None:
        """What is there, if nothing needs to be made."""
        if not self._server_pem.exists() or not self._server_key.exists():
            return None
        chain = _certificates(self._server_pem)
        if _is(chain[0], _SERVER):
            good = self._signed_here(chain) and now < chain[0].not_valid_after_utc - RENEW_BEFORE
            if not good or not hosts <= _hosts(chain[0]):
                return None
        if chain[0].public_key() != _key(self._server_key).public_key():
            raise CertificateFault(
                f"{self._server_key} is not the key of {self._server_pem}: put its own there"
            )
        if now >= chain[0].not_valid_after_utc:
            log.warning("the server certificate has expired", extra={"path": str(self._server_pem)})
        authority = self._ca_pem.read_bytes() if self._ca_pem.exists() else b""
        return ServerCertificate(self._server_pem.read_bytes(), self._server_key.read_bytes(), authority)

    def _signed_here(self, chain: Sequence[x509.Certificate]) -> bool:
        """Whether the chain ends with the authority that stands there."""
        return self._ca_pem.exists() and chain[-1] == _certificates(self._ca_pem)[0]

    def issue(self, hosts: set[str], now: datetime) -> ServerCertificate:
        """Make what is missing, and the server certificate in any case."""
        if self._server_pem.exists() and not self._server_key.exists():
            raise CertificateFault(f"{self._server_key} is missing: put the key of {self._server_pem} there")
        authority, signer = self._ensure_authority(now)
        key = _ensure_key(self._server_key)
        if self._server_pem.exists():
            # Replicas with hosts of their own share the file.
            hosts = hosts | _hosts(_certificates(self._server_pem)[0])
        end = min(now + timedelta(days=_SERVER_DAYS), authority.not_valid_after_utc)
        made = _server(key, hosts, authority, signer, now, end)
        _replace(self._server_pem, _pem(made) + _pem(authority))
        log.info("wrote a server certificate", extra={"path": str(self._server_pem), "hosts": sorted(hosts)})
        return ServerCertificate(
            self._server_pem.read_bytes(), self._server_key.read_bytes(), self._ca_pem.read_bytes()
        )

    def _ensure_authority(self, now: datetime) -> tuple[x509.Certificate, Key]:
        if self._ca_pem.exists() and not self._ca_key.exists():
            raise CertificateFault(
                f"{self._ca_key} is missing: put the key of {self._ca_pem} there, or take that away, or put "
                "server.pem and server.key there, which it signed"
            )
        key = _ensure_key(self._ca_key)
        if self._ca_pem.exists():
            found = _certificates(self._ca_pem)[0]
            if found.public_key() != key.public_key():
                raise CertificateFault(f"{self._ca_key} is not the key of {self._ca_pem}: put its own there")
            if not _is(found, _AUTHORITY) or now < found.not_valid_after_utc - RENEW_BEFORE:
                return found, key
        # The same name and key: what the earlier one signed stays good.
        made = _authority(key, now)
        _replace(self._ca_pem, _pem(made))
        return made, key


def _authority(key: Key, now: datetime) -> x509.Certificate:
    name = _name(_AUTHORITY)
    usage = _usage(key_cert_sign=True, crl_sign=True, digital_signature=True)
    made = _builder(name, name, key, now, now + timedelta(days=_AUTHORITY_DAYS))
    made = made.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    return made.add_extension(usage, critical=True).sign(key, hashes.SHA256())


def _server(
    key: Key, hosts: Iterable[str], authority: x509.Certificate, signer: Key, now: datetime, end: datetime
) -> x509.Certificate:
    names = [_general(host) for host in sorted(hosts)]
    usage = _usage(digital_signature=True)
    made = _builder(_name(_SERVER), authority.subject, key, now, end)
    made = made.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    made = made.add_extension(usage, critical=True)
    made = made.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    made = made.add_extension(x509.SubjectAlternativeName(names), critical=False)
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    return made.add_extension(issuer, critical=False).sign(signer, hashes.SHA256())


def _builder(
    subject: x509.Name, issuer: x509.Name, key: Key, now: datetime, end: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _is(certificate: x509.Certificate, name: str) -> bool:
    return certificate.subject == _name(name)


def _general(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _hosts(certificate: x509.Certificate) -> set[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    addresses = map(str, names.get_values_for_type(x509.IPAddress))
    return {*names.get_values_for_type(x509.DNSName), *addresses}


def _certificates(path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except ValueError as error:
        raise CertificateFault(f"{path} holds no PEM certificate: {error}") from None


def _key(path: Path) -> Key:
    try:
        found = load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError) as error:
        raise CertificateFault(f"{path} holds no PEM key without a password: {error}") from None
    return found  # type: ignore[return-value]  # keys that cannot sign fail when they are to


def _ensure_key(path: Path) -> Key:
    if not path.exists():
        key = ec.generate_private_key(ec.SECP256R1())
        temporary = path.with_name(f".{secrets.token_hex(8)}")
        write_private(temporary, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        temporary.replace(path)
        sync_directory(path.parent)
    return _key(path)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{secrets.token_hex(8)}")
    write_private(temporary, content)
    temporary.chmod(0o644)
    temporary.replace(path)
    sync_directory(path.parent)


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    handle = os.open(directory / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
