"""Tokens that stand for one client or one exporter (jumpstarter contract, section 4).

They are ordinary access tokens, on record and revocable, whose subject says which object of which uid
calls: an object that was removed and made anew is another one. A new token ends no earlier one.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Self

from services.jumpstarter.names import CLIENTS, EXPORTERS, Collection, id_of
from shared.auth.access import Access
from shared.auth.identity import Identity
from shared.auth.permissions import JUMPSTARTER_CLIENT, JUMPSTARTER_EXPORTER
from shared.errors import Unauthenticated
from shared.pb.roundhouse.admin.v1.access_pb2 import Token
from shared.pb.roundhouse.lab.v1 import lab_pb2 as pb
from shared.rpc.method import Call

TTL: Final = timedelta(days=365)

# What may call: a kind as metadata spells it -> the names and the role of its tokens.
CLIENT: Final = "Client"
EXPORTER: Final = "Exporter"
COLLECTIONS: Final[dict[str, Collection]] = {CLIENT: CLIENTS, EXPORTER: EXPORTERS}
ROLES: Final[dict[str, str]] = {CLIENT: JUMPSTARTER_CLIENT, EXPORTER: JUMPSTARTER_EXPORTER}
_KINDS: Final = {role: kind for kind, role in ROLES.items()}


@dataclass(frozen=True, slots=True)
class Subject:
    """Which object a token stands for; its text is `client:{namespace}:{id}:{uid}`."""

    kind: str
    namespace: str
    id: str
    uid: str

    @classmethod
    def of(cls, resource: pb.Client | pb.Exporter) -> Self:
        kind = CLIENT if isinstance(resource, pb.Client) else EXPORTER
        return cls(kind, resource.namespace, id_of(resource.name), resource.uid)

    @classmethod
    def whose(cls, identity: Identity) -> Self | None:
        """None: the token stands for a person. Raises Unauthenticated for a subject that is not of
        the token's role."""
        kind = _KINDS.get(identity.role)
        if kind is None:
            return None
        parts = identity.subject.split(":")
        if len(parts) != 4 or parts[0] != kind.lower():
            raise Unauthenticated(f"the subject of the bearer token is no {kind.lower()}")
        return cls(kind, *parts[1:])

    @property
    def name(self) -> str:
        """The full resource name."""
        return COLLECTIONS[self.kind].name(self.namespace, self.id)

    def __str__(self) -> str:
        return f"{self.kind.lower()}:{self.namespace}:{self.id}:{self.uid}"


class LabTokens:
    """Issues them."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def issue(
        self, resource: pb.Client | pb.Exporter, call: Call, ttl: timedelta = TTL
    ) -> tuple[str, Token]:
        """A new token for a stored client or exporter: its text and its record, which has the
        expiry. Raises InvalidArgument at "ttl"."""
        subject = Subject.of(resource)
        verb = "rotate" if str(subject) == call.identity.subject else "issue"
        return await self._access.issue(
            str(subject),
            ROLES[subject.kind],
            ttl,
            creator=call.identity.subject,
            by=call.author(f"token:{verb}"),
        )
