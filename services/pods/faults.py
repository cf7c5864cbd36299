"""What is wrong with pods and inventory rows that are fed, and their ids in the one form."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from google.protobuf.timestamp_pb2 import Timestamp

from services.pods.kinds import instances
from shared.errors import InvalidArgument, Violation
from shared.pb.roundhouse.pods.v1 import pods_pb2 as pb
from shared.pb.storage.pod_pb2 import ContainerInstance, Pod
from shared.query.dialects.search import uuid
from shared.rest.scalars import TIMESTAMP_MAX, TIMESTAMP_MIN

# Characters of a text that queries look at: expressions run through all of it.
MAX_TEXT: Final = 1024
# Bytes of a pod, and of a row of the inventory.
MAX_POD: Final = 1 << 20
MAX_ROW: Final = 1 << 18
MAX_SOURCE: Final = 64
# What sources of this installation itself begin with.
OWN: Final = "roundhouse/"
_POD_TEXTS: Final = ("name", "namespace")
_ROW_TEXTS: Final = ("name", "type", "cluster_name", "namespace", "service_account")


def check_pod(pod: Pod, where: str) -> None:
    """Puts the pod's ids in lower case. Raises InvalidArgument with everything that is wrong; `where`
    goes before each field."""
    found = [*_ids(pod, ("id", "cluster_id"), ("deployment_id",)), *_pod(pod)]
    _raise(found, where)


def pod_id(pod: Pod, where: str) -> str:
    """Of a pod whose other fields do not count. Raises InvalidArgument."""
    _raise(list(_ids(pod, ("id",), ())), where)
    return pod.id


def check_row(row: pb.Cluster | pb.Deployment, where: str) -> None:
    """The same for a row of the inventory."""
    if isinstance(row, pb.Cluster):
        found = list(_ids(row, ("id",), ()))
    else:
        found = list(_ids(row, ("id",), ("cluster_id", "namespace_id")))
        found += (Violation("created", _TIME) for _ in (1,) if not _tellable(row, "created"))
    found += _texts(row, [name for name in _ROW_TEXTS if name in row.DESCRIPTOR.fields_by_name])
    if row.ByteSize() > MAX_ROW:
        found.append(Violation("", f"takes {row.ByteSize()} bytes; at most {MAX_ROW} are allowed"))
    _raise(found, where)


def cluster_id(text: str, field: str) -> str:
    """A UUID in lower case. Raises InvalidArgument naming `field`."""
    found = uuid(text)
    if found is None:
        raise InvalidArgument.at(field, _NO_UUID.format(_shown(text)))
    return found


def source(text: str, field: str, *, own: bool = False) -> str:
    """Raises InvalidArgument when it is too long, holds what is not printable, or, unless `own`, is one
    of this installation."""
    if len(text) > MAX_SOURCE or not text.isprintable():
        raise InvalidArgument.at(field, f"must be at most {MAX_SOURCE} printable characters")
    if text.startswith(OWN) and not own:
        raise InvalidArgument.at(field, f"must not begin with {OWN}, as those of this installation do")
    return text


_TIME: Final = "is no time that JSON can say: years 1 to 9999, nanos from 0 to 999999999"
_NO_UUID: Final = "must be a UUID, not {}"


def _ids(message: Any, needed: tuple[str, ...], optional: tuple[str, ...]) -> Iterator[Violation]:
    for field in (*needed, *optional):
        text = getattr(message, field)
        if not text and field in optional:
            continue
        found = uuid(text)
        if found is None:
            yield Violation(field, _NO_UUID.format(_shown(text)))
        elif found != text:
            setattr(message, field, found)


def _pod(pod: Pod) -> Iterator[Violation]:
    yield from _texts(pod, _POD_TEXTS)
    if not _tellable(pod, "started"):
        yield Violation("started", _TIME)
    for instance in instances(pod):
        yield from _instance(instance)
    if pod.ByteSize() > MAX_POD:
        yield Violation("", f"takes {pod.ByteSize()} bytes; at most {MAX_POD} are allowed")


def _instance(instance: ContainerInstance) -> Iterator[Violation]:
    prefix = "instances."
    texts = (
        ("container_name", instance.container_name),
        ("image_digest", instance.image_digest),
        ("instance_id.id", instance.instance_id.id),
        ("instance_id.node", instance.instance_id.node),
    )
    for field, text in texts:
        if len(text) > MAX_TEXT:
            yield _long(prefix + field, text)
    for field in ("started", "finished"):
        if not _tellable(instance, field):
            yield Violation(prefix + field, _TIME)


def _texts(message: Any, fields: Any) -> Iterator[Violation]:
    for field in fields:
        text = getattr(message, field)
        if len(text) > MAX_TEXT:
            yield _long(field, text)


def _long(field: str, text: str) -> Violation:
    return Violation(field, f"has {len(text)} characters; at most {MAX_TEXT} are allowed")


def _tellable(message: Any, field: str) -> bool:
    """The time is unset, or JSON has a form for it."""
    if not message.HasField(field):
        return True
    time: Timestamp = getattr(message, field)
    return TIMESTAMP_MIN <= time.seconds <= TIMESTAMP_MAX and 0 <= time.nanos < 1_000_000_000


def _raise(found: list[Violation], where: str) -> None:
    if found:
        raise InvalidArgument.of([Violation(f"{where}{v.field}".rstrip("."), v.description) for v in found])


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")
