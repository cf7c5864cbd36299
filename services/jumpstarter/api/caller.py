"""Who calls: a token and the jumpstarter-* metadata as a client or an exporter (jumpstarter
contract, section 4).

Over gRPC a client's or exporter's call names its caller in the metadata; over REST the token's subject
is enough. Staff calls as a client: the one that jumpstarter-name names, or one called like the user.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from services.jumpstarter.api import tokens
from services.jumpstarter.api.tokens import Subject
from services.jumpstarter.names import CLIENTS, EXPORTERS, id_fault
from shared.auth.access import AUTHORIZATION, Access
from shared.auth.identity import Identity
from shared.auth.permissions import APART, GRANTS, VIEWER
from shared.errors import AlreadyExists, InvalidArgument, NotFound, PermissionDenied, Violation
from shared.pb.roundhouse.lab.v1 import lab_pb2 as pb
from shared.resource.collection import Collection
from shared.rpc.method import Call, Metadata, Method

KIND: Final = "jumpstarter-kind"
NAMESPACE: Final = "jumpstarter-namespace"
NAME: Final = "jumpstarter-name"
# Where staff acts that names no namespace.
DEFAULT_NAMESPACE: Final = "default"

_ID_LENGTH: Final = 50
_HASH: Final = 10
_HASHED: Final = re.compile(rf"-[0-9a-f]{{{_HASH}}}$")
_HEADERS: Final = (KIND, NAMESPACE, NAME)


@dataclass(frozen=True, slots=True)
class Caller:
    """A client or an exporter; the message of the other kind is empty. `name` is the full resource
    name. A client that staff reads as need not be stored: then it has no uid."""

    namespace: str
    name: str
    client: pb.Client = field(default_factory=pb.Client)
    exporter: pb.Exporter = field(default_factory=pb.Exporter)
    staff: bool = False


@dataclass(frozen=True, slots=True)
class _Named:
    """What the metadata says; None where it says nothing."""

    kind: str | None
    namespace: str | None
    id: str | None


class Admission:
    """Authenticates the calls of an RPC that is for callers of some kinds."""

    def __init__(self, access: Access, kinds: frozenset[str]) -> None:
        self._access = access
        self._kinds = kinds

    async def authenticate(self, metadata: Metadata) -> Identity:
        """Raises InvalidArgument for several tokens, another scheme than Bearer or a caller of the
        wrong kind, Unauthenticated and StoreUnavailable as Access does."""
        if self._access.enabled:
            _check_header(metadata)
        identity = await self._access.authenticate(metadata)
        subject = Subject.whose(identity)
        kind = metadata.get(KIND, "") or (subject.kind if subject is not None else "")
        if kind and kind not in self._kinds:
            wanted = " or ".join(sorted(self._kinds))
            raise InvalidArgument.at(KIND, f"object kind mismatch: this call is for {wanted}, not {kind!r}")
        return identity


def admitted(methods: Iterable[Method], access: Access) -> list[Method]:
    """The methods of ClientService and ControllerService, each for callers of the kinds whose role
    has its permission."""
    return [replace(method, authenticator=_admission(method, access)) for method in methods]


def _admission(method: Method, access: Access) -> Admission:
    kinds = (kind for kind, role in tokens.ROLES.items() if method.permission in APART[role])
    return Admission(access, frozenset(kinds))


class Callers:
    """Finds the callers of admitted calls among the stored clients and exporters."""

    def __init__(
        self, access: Access, clients: Collection[pb.Client], exporters: Collection[pb.Exporter]
    ) -> None:
        self._access = access
        self._clients = clients
        self._exporters = exporters

    async def client(self, call: Call, namespace: str | None) -> Caller:
        """The client that calls about something in `namespace` (its id; None: the caller's own).

        Raises InvalidArgument for metadata that is missing, sent twice or malformed, and
        PermissionDenied for another's token, an object that is gone, or another namespace.
        """
        named, subject = _named(call), Subject.whose(call.identity)
        if subject is None:
            return await self._staff(call, named, namespace)
        _check(named, subject, tokens.CLIENT, call)
        if namespace is not None and namespace != subject.namespace:
            raise _mismatch(namespace, subject.namespace)
        found = await _stored(self._clients, subject)
        return Caller(subject.namespace, subject.name, client=found)

    async def exporter(self, call: Call) -> Caller:
        """The exporter that calls. Raises as `client` does."""
        named, subject = _named(call), Subject.whose(call.identity)
        if subject is None:
            return await self._unproved(call, named)
        _check(named, subject, tokens.EXPORTER, call)
        found = await _stored(self._exporters, subject)
        return Caller(subject.namespace, subject.name, exporter=found)

    async def either(self, call: Call) -> Caller:
        """Whichever of both calls. Raises as `client` does."""
        subject = Subject.whose(call.identity)
        kind = call.metadata.get(KIND, "") if subject is None else subject.kind
        return await self.exporter(call) if kind == tokens.EXPORTER else await self.client(call, None)

    async def _staff(self, call: Call, named: _Named, namespace: str | None) -> Caller:
        if named.namespace and namespace is not None and named.namespace != namespace:
            raise _mismatch(namespace, named.namespace)
        place = namespace or named.namespace or DEFAULT_NAMESPACE
        id = named.id or client_id(call.identity.subject)
        _check_ids({NAMESPACE: place, NAME: id})
        check_namespace(call, place)
        name = CLIENTS.name(place, id)
        try:
            client = await self._clients.get(name)
        except NotFound:
            client = await self._absent(name, place, call)
        return Caller(place, name, client=client, staff=True)

    async def _absent(self, name: str, namespace: str, call: Call) -> pb.Client:
        """The client that staff acts as for the first time; a reading call does not store it."""
        if GRANTS.get(call.method.permission) == VIEWER:
            return pb.Client(name=name, namespace=namespace)
        try:
            return (await self._clients.create(pb.Client(name=name), call.author("client:create"))).resource
        except AlreadyExists:
            return await self._clients.get(name)

    async def _unproved(self, call: Call, named: _Named) -> Caller:
        """Without authentication a call is whose metadata it bears; otherwise nobody's."""
        if self._access.enabled:
            raise PermissionDenied(
                f"role {call.identity.role!r} is no exporter; `roundhouse token jumpstarter exporter` makes "
                "a token for one",
                permission=call.method.permission,
            )
        _check_complete(named)
        assert named.namespace is not None and named.id is not None
        _check_ids({NAMESPACE: named.namespace, NAME: named.id})
        name = EXPORTERS.name(named.namespace, named.id)
        try:
            return Caller(named.namespace, name, exporter=await self._exporters.get(name))
        except NotFound:
            raise _gone(name) from None


def client_id(user: str) -> str:
    """The id of the client that a user acts as who names none: the user's name, where it may be one.
    Otherwise a short hash of it keeps two users apart, and no user is called like another's hash."""
    if not id_fault(user) and not _HASHED.search(user):
        return user
    plain = re.sub(r"[^a-z0-9]+", "-", user.lower())[:_ID_LENGTH].strip("-") or "user"
    return f"{plain}-{hashlib.sha256(user.encode()).hexdigest()[:_HASH]}"


def _check_header(metadata: Metadata) -> None:
    if AUTHORIZATION in metadata.repeated:
        raise InvalidArgument.at(AUTHORIZATION, "must be sent once")
    header = metadata.get(AUTHORIZATION, "").strip()
    if header and header.partition(" ")[0].lower() != "bearer":
        raise InvalidArgument.at(AUTHORIZATION, "must read 'Bearer <token>'")


def _named(call: Call) -> _Named:
    repeated = call.metadata.repeated
    if wrong := [Violation(name, "must be sent once") for name in _HEADERS if name in repeated]:
        raise InvalidArgument.of(wrong)
    return _Named(*(call.metadata.get(name, "") or None for name in _HEADERS))


def _check(named: _Named, subject: Subject, kind: str, call: Call) -> None:
    """Raise unless a call with that subject may say so of itself."""
    if call.transport == "grpc":
        _check_complete(named)
    if (named.kind or subject.kind) != kind:
        raise InvalidArgument.at(KIND, f"object kind mismatch: this call is for {kind}, not {named.kind!r}")
    given = (named.namespace or subject.namespace, named.id or subject.id)
    if subject.kind != kind or given != (subject.namespace, subject.id):
        raise PermissionDenied(
            f"the token is of {subject.name}, which is not the {kind.lower()} that the metadata names",
            permission=call.method.permission,
        )


def _check_complete(named: _Named) -> None:
    values: dict[str, Any] = dict(zip(_HEADERS, (named.kind, named.namespace, named.id), strict=True))
    if wrong := [Violation(name, "must be sent") for name, value in values.items() if value is None]:
        raise InvalidArgument.of(wrong)


def _check_ids(ids: Mapping[str, str]) -> None:
    wrong = [Violation(name, fault) for name, id in ids.items() if (fault := id_fault(id))]
    if wrong:
        raise InvalidArgument.of(wrong)


def check_namespace(call: Call, namespace: str) -> None:
    """Raises PermissionDenied, saying what would help, unless the namespace is among the user's."""
    allowed = call.identity.namespaces
    if allowed is not None and namespace not in allowed:
        user = call.identity.subject
        raise PermissionDenied(
            f"user {user!r} may not act in namespace {namespace!r}; an admin grants it: "
            f"roundhouse user put {user} --add-namespace {namespace}",
            permission=call.method.permission,
        )


def _mismatch(asked: str, own: str) -> PermissionDenied:
    return PermissionDenied(f"namespace mismatch: the caller is of {own!r}, the request of {asked!r}")


async def _stored(collection: Collection[Any], subject: Subject) -> Any:
    try:
        found = await collection.get(subject.name)
    except NotFound:
        raise _gone(subject.name) from None
    if found.uid != subject.uid:
        raise PermissionDenied(
            f"{subject.name} was made anew since the token was issued; it needs a new token"
        )
    return found


def _gone(name: str) -> PermissionDenied:
    return PermissionDenied(f"{name} does not exist (any more); it must be stored before it can call")
