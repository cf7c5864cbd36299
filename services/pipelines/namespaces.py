"""Single-user and multi-user mode: which namespace a request means, and who may touch it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from shared.auth.identity import Identity
from shared.errors import InvalidArgument, PermissionDenied, Unauthenticated
from shared.pb.backend.api.v1beta1 import experiment_pb2 as v1
from shared.pb.backend.api.v1beta1 import resource_reference_pb2 as reference_pb2
from shared.rpc.method import Call

# The identity of a subject that a trusted proxy names; raises Unauthenticated for an unknown one.
Lookup = Callable[[str], Awaitable[Identity]]
_IMPERSONATE = "impersonate"


@dataclass(frozen=True)
class Namespaces:
    """`header` and `prefix` name the user, from callers with permission `impersonate` only."""

    multi_user: bool
    shared_read: bool
    header: str
    prefix: str
    lookup: Lookup

    def of_create(self, experiment: v1.Experiment) -> str:
        """The namespace of a v1beta1 create. Raises InvalidArgument."""
        references = experiment.resource_references
        path = "experiment.resource_references"
        if not self.multi_user:
            if references:
                raise InvalidArgument.at(path, "must be empty in single-user mode")
            return ""
        if len(references) != 1:
            raise InvalidArgument.at(path, f"must hold one NAMESPACE reference; it holds {len(references)}")
        reference = references[0]
        if reference.key.type != reference_pb2.NAMESPACE or reference.relationship != reference_pb2.OWNER:
            raise InvalidArgument.at(f"{path}[0]", "must be of type NAMESPACE and relationship OWNER")
        return self._named(reference.key.id, f"{path}[0].key.id")

    def of_list(self, request: v1.ListExperimentsRequest) -> str:
        """The namespace of a v1beta1 list. Raises InvalidArgument."""
        key, path = request.resource_reference_key, "resource_reference_key"
        if key.type == reference_pb2.UNKNOWN_RESOURCE_TYPE and not key.id and not self.multi_user:
            return ""
        if key.type != reference_pb2.NAMESPACE:
            raise InvalidArgument.at(f"{path}.type", "must be NAMESPACE; experiments belong to nothing else")
        if self.multi_user:
            return self._named(key.id, f"{path}.id")
        if key.id:
            raise InvalidArgument.at(f"{path}.id", f"must be empty in single-user mode, not {key.id!r}")
        return ""

    def of_v2(self, namespace: str, path: str) -> str:
        """The namespace of a v2beta1 request; in single-user mode a given one is left aside, for kfp
        2 clients send the one of their context. Raises InvalidArgument."""
        return self._named(namespace, path) if self.multi_user else ""

    async def admit(self, call: Call, namespace: str, *, read: bool = False) -> None:
        """Raises PermissionDenied when the caller may not touch the namespace, Unauthenticated when
        a proxy names nobody."""
        if not self.multi_user:
            return
        user = await self._user(call)
        if read and self.shared_read:
            return
        if user.namespaces is not None and namespace not in user.namespaces:
            raise PermissionDenied(
                f"user {user.subject!r} may not touch namespace {namespace!r}",
                permission=call.method.permission,
            )

    async def _user(self, call: Call) -> Identity:
        named = call.metadata.get(self.header.lower(), "")
        if not named or not call.identity.may(_IMPERSONATE):
            return call.identity
        if not named.startswith(self.prefix) or named == self.prefix:
            raise Unauthenticated(f"header {self.header} must be {self.prefix!r} and the user's name")
        user = await self.lookup(named.removeprefix(self.prefix))
        if not user.may(call.method.permission):
            raise PermissionDenied(
                f"user {user.subject!r} lacks permission {call.method.permission!r}",
                permission=call.method.permission,
            )
        return user

    def _named(self, namespace: str, path: str) -> str:
        if not namespace:
            raise InvalidArgument.at(path, "must name a namespace in multi-user mode")
        return namespace
