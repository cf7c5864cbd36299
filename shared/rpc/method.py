"""One RPC, as both transports see it: descriptor, handler, permission and REST rules."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from google.api import annotations_pb2
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from shared.auth.identity import ANONYMOUS, Identity
from shared.auth.permissions import PUBLIC as PUBLIC
from shared.storage.port import Author


@dataclass(frozen=True, slots=True)
class HttpRule:
    """A google.api.http binding. `body` is "" (none), "*" or a field of the request."""

    verb: str
    path: str
    body: str = ""


@dataclass(frozen=True, slots=True)
class Method:
    """`handler(request, call)`: a coroutine for a unary answer, an async generator for a stream.

    An answer is a message or its serialized bytes; bytes go out as they are. With client streaming
    `request` is an async iterator of messages.
    """

    service: str
    name: str
    request: type[Message]
    response: type[Message]
    handler: Callable[[Any, Call], Any]
    permission: str
    rules: tuple[HttpRule, ...] = ()
    client_streaming: bool = False
    server_streaming: bool = False

    @property
    def path(self) -> str:
        return f"/{self.service}/{self.name}"


@dataclass(slots=True)
class Call:
    """What a handler may know of the call it answers."""

    method: Method
    request_id: str
    # Lower-case names; the first value of each.
    metadata: Mapping[str, str]
    transport: str  # "grpc" or "rest"
    identity: Identity = ANONYMOUS

    def author(self, action: str) -> Author:
        """For a commit: `action` is `subject:verb`, for example "experiment:archive"."""
        return Author(self.identity.subject, f"{self.transport}:{action}", self.request_id)


def http_rules(method: MethodDescriptor) -> tuple[HttpRule, ...]:
    """The rules that the proto's annotation gives, additional bindings included."""
    options = method.GetOptions()
    if not options.HasExtension(annotations_pb2.http):
        return ()
    first = options.Extensions[annotations_pb2.http]
    found = []
    for rule in (first, *first.additional_bindings):
        verb = rule.WhichOneof("pattern")
        if verb == "custom":
            found.append(HttpRule(rule.custom.kind, rule.custom.path, rule.body))
        else:
            found.append(HttpRule(verb.upper(), getattr(rule, verb), rule.body))
    return tuple(found)


def methods_of(
    service: ServiceDescriptor,
    servicer: object,
    permissions: Mapping[str, str],
    *,
    aliases: Mapping[str, str] | None = None,
    rules: Mapping[str, Sequence[HttpRule]] | None = None,
) -> list[Method]:
    """Every method of `service`, handled by the method of that name of `servicer`.

    `permissions` maps "/service/method" to a permission; one that is missing is a KeyError, so a
    forgotten method stops the process at start. `aliases` maps a method to the one whose handler
    it shares. `rules` replace the annotations.
    """
    return list(_build(service, servicer, permissions, aliases or {}, rules))


def _build(
    service: ServiceDescriptor,
    servicer: object,
    permissions: Mapping[str, str],
    aliases: Mapping[str, str],
    rules: Mapping[str, Sequence[HttpRule]] | None,
) -> Iterable[Method]:
    for method in service.methods:
        yield Method(
            service=service.full_name,
            name=method.name,
            request=GetMessageClass(method.input_type),
            response=GetMessageClass(method.output_type),
            handler=getattr(servicer, aliases.get(method.name, method.name)),
            permission=permissions[f"/{service.full_name}/{method.name}"],
            rules=tuple(rules.get(method.name, ())) if rules is not None else http_rules(method),
            client_streaming=method.client_streaming,
            server_streaming=method.server_streaming,
        )
