"""What of a resource an answer holds: a view, narrowed or widened by a field mask."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from google.protobuf.message import Message

from shared.errors import InvalidArgument, Violation
from shared.query import path as paths
from shared.query.path import Path, UnknownPath

T = TypeVar("T", bound=Message)
# Field -> what is wanted below it; None is all of it. Under a map field the names are keys.
_Tree = dict[str, Any]


@dataclass(frozen=True)
class Projection(Generic[T]):
    """`tree` None shows everything, and `apply` then answers the message itself."""

    message: type[T]
    tree: _Tree | None = None

    @property
    def everything(self) -> bool:
        return self.tree is None

    def apply(self, source: T) -> T:
        if self.tree is None:
            return source
        shown = self.message()
        _copy(source, shown, self.tree)
        return shown

    def bytes(self, body: bytes) -> bytes:
        """A stored body, projected."""
        if self.tree is None:
            return body
        return self.apply(self.message.FromString(body)).SerializeToString(deterministic=True)

    def __str__(self) -> str:
        """Canonical: equal projections print alike."""
        return "*" if self.tree is None else ",".join(sorted(_leaves(self.tree, "")))


@dataclass(frozen=True)
class Views:
    """View number -> the fields it shows without a mask; None is all. `always` is shown whatever a
    mask says. With a mask a view of listed fields shows both, a view in `masked` the mask's only,
    and one in neither everything."""

    fields: Mapping[int, tuple[str, ...] | None]
    masked: frozenset[int]
    always: tuple[str, ...] = ("name",)

    def projection(self, message: type[T], view: int, mask: Sequence[str]) -> Projection[T]:
        """Raises InvalidArgument for an unknown view or path."""
        if view not in self.fields:
            raise InvalidArgument.at("view", f"there is no view {view}")
        wanted = resolve(mask, message.DESCRIPTOR)
        listed = self.fields[view]
        if wanted is None:
            chosen = listed
        elif listed is not None:
            chosen = (*listed, *wanted)
        else:
            chosen = wanted if view in self.masked else None
        if chosen is None or "*" in chosen:
            return Projection(message)
        return Projection(message, _tree((*self.always, *chosen), message.DESCRIPTOR))


def resolve(mask: Iterable[str], descriptor: Any, *, parameter: str = "field_mask") -> tuple[str, ...] | None:
    """The paths in their canonical spelling; None when there are none. `*` means all. Raises
    InvalidArgument naming every wrong one."""
    found: list[str] = []
    wrong: list[Violation] = []
    for text in mask:
        try:
            found.append("*" if text == "*" else str(paths.resolve(text, descriptor)))
        except UnknownPath as error:
            wrong.append(Violation(parameter, f"{text!r}: {error}"))
    if wrong:
        raise InvalidArgument.of(wrong)
    return tuple(found) or None


def _tree(wanted: Iterable[str], descriptor: Any) -> _Tree:
    tree: _Tree = {}
    for text in wanted:
        _add(tree, paths.resolve(text, descriptor))
    return tree


def _add(tree: _Tree, path: Path) -> None:
    names = [field.name for field in path.fields] + ([path.key] if path.key is not None else [])
    for name in names[:-1]:
        below = tree.setdefault(name, {})
        if below is None:
            return  # wanted whole already
        tree = below
    tree[names[-1]] = None


def _leaves(tree: _Tree, prefix: str) -> Iterable[str]:
    for name, below in tree.items():
        spelled = f"{prefix}{name.replace('.', chr(92) + '.')}"
        if below is None:
            yield spelled
        else:
            yield from _leaves(below, f"{spelled}.")


def _copy(source: Message, target: Message, tree: _Tree) -> None:
    for name, below in tree.items():
        field = source.DESCRIPTOR.fields_by_name[name]
        if paths.is_map(field):
            _copy_map(getattr(source, name), getattr(target, name), below)
        elif field.is_repeated:
            if below is None:
                getattr(target, name).MergeFrom(getattr(source, name))
            else:
                for element in getattr(source, name):
                    _copy(element, getattr(target, name).add(), below)
        elif field.message_type is not None:
            if source.HasField(name):
                getattr(target, name).SetInParent()
                if below is None:
                    getattr(target, name).CopyFrom(getattr(source, name))
                else:
                    _copy(getattr(source, name), getattr(target, name), below)
        elif not field.has_presence or source.HasField(name):
            setattr(target, name, getattr(source, name))


def _copy_map(source: Any, target: Any, keys: _Tree | None) -> None:
    for key in source if keys is None else keys:
        if key in source:
            target[key] = source[key]
