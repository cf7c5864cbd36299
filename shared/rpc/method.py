"""One RPC, as both transports see it: descriptor, handler, permission and REST rules."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from google.api import annotations_pb2
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from shared.auth.identity import ANONYMOUS, Identity
from shared.auth.permissions import PUBLIC as PUBLIC
from shared.rpc.limit import Limit
from shared.storage.port import Author


class Metadata(Mapping[str, str]):
    """What a caller sent beside the request: lower-case names, the first value of each."""

    __slots__ = ()

    @property
    @abstractmethod
    def repeated(self) -> frozenset[str]:
        """The names that were sent more than once."""


class MetadataDict(dict[str, str], Metadata):
    """Metadata that is read already: `MetadataDict({"jumpstarter-kind": "Client"}, repeated={...})`."""

    __slots__ = ("_repeated",)

    def __init__(self, values: Mapping[str, str] | None = None, repeated: Iterable[str] = ()) -> None:
        super().__init__(values or {})
        self._repeated = frozenset(repeated)

    @property
    def repeated(self) -> frozenset[str]:
        return self._repeated


class Authenticator(Protocol):
    async def authenticate(self, metadata: Metadata) -> Identity:
        """Raises Unauthenticated."""


@dataclass(frozen=True, slots=True)
class HttpRule:
    """A google.api.http binding. `body` is "" (none), "*" or a field of the request."""

    verb: str
    path: str
    body: str = ""


@dataclass(frozen=True, slots=True)
class HttpForm:
    """How a streaming method meets HTTP where that is not by messages in JSON."""

    # The request of a method that streams from the client, out of query parameters and a body that is
    # still arriving. May raise InvalidArgument; so may the body, while it is read.
    read: Callable[[Sequence[tuple[str, str]], AsyncIterator[bytes]], Any] | None = None
    # Answers instead of the handler where JSON lines are wanted: any number of whole lines at a time.
    lines: Callable[[Any, Call], AsyncIterator[bytes]] | None = None


@dataclass(frozen=True, slots=True)
class Method:
    """`handler(request, call)`: a coroutine for a unary answer, an async generator for a stream.

    An answer is a message or its serialized bytes; bytes go out as they are. With client streaming
    `request` is an async iterator of messages; of a `raw` method requests are bytes that nobody parsed.
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
    raw: bool = False
    # Says who calls, instead of the process's own.
    authenticator: Authenticator | None = None
    http: HttpForm | None = None

    @property
    def path(self) -> str:
        return f"/{self.service}/{self.name}"


@dataclass(slots=True)
class Call:
    """What a handler may know of the call it answers."""

    method: Method
    request_id: str
    metadata: Metadata
    transport: str  # "grpc" or "rest"
    identity: Identity = ANONYMOUS
    # Of a stream: what ends it in time, also while its reader is slow.
    limit: Limit | None = None

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
    raw: Collection[str] = (),
    authenticator: Authenticator | None = None,
    http: Mapping[str, HttpForm] | None = None,
) -> list[Method]:
    """Every method of `service`, handled by the method of that name of `servicer`.

    `permissions` maps "/service/method" to a permission; one that is missing is a KeyError, so a
    forgotten method stops the process at start. `aliases` maps a method to the one whose handler
    it shares. `rules` replace the annotations. `raw` names methods whose handlers take bytes.
    `http` gives methods forms of their own over HTTP.
    """
    names, forms = aliases or {}, http or {}
    return [
        Method(
            service=service.full_name,
            name=method.name,
            request=GetMessageClass(method.input_type),
            response=GetMessageClass(method.output_type),
            handler=getattr(servicer, names.get(method.name, method.name)),
            permission=permissions[f"/{service.full_name}/{method.name}"],
            rules=tuple(rules.get(method.name, ())) if rules is not None else http_rules(method),
            client_streaming=method.client_streaming,
            server_streaming=method.server_streaming,
            raw=method.name in raw,
            authenticator=authenticator,
            http=forms.get(method.name),
        )
        for method in service.methods
    ]
