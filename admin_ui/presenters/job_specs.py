"""Specs of jobs as text that people edit: read with all its mistakes, compared, and put together."""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import grpc
import yaml
from google.protobuf import json_format
from google.protobuf.message import Message

from admin_ui.presenters import raw
from admin_ui.presenters.history import FieldChange
from admin_ui.presenters.manifests import Line, Overlap, Tone
from shared.admin import document
from shared.errors import InvalidArgument, Violation
from shared.pb.peloton.api.v1alpha.job.stateless.stateless_pb2 import JobSpec
from shared.rpc.client import Failure

# Mistakes after which nobody needs to know of more, and lines of a difference that are shown.
_ENOUGH: Final = 100
MAX_LINES: Final = 600
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# What a text is blamed as that cannot be read at all.
UNREADABLE: Final = "manifest"
_PATH: Final = re.compile(r"(spec(?:\.[a-z_]+|\[\d+\])*):? (.+)", re.DOTALL)
# What a person may leave out of a spec that another service wrote: the server's own.
OF_SERVER: Final = ("revision",)


def bare(spec: JobSpec) -> JobSpec:
    """A copy without what only the server sets."""
    found = JobSpec()
    found.CopyFrom(spec)
    for name in OF_SERVER:
        found.ClearField(name)
    return found


def value(spec: JobSpec) -> dict[str, Any]:
    return raw.value(bare(spec))


def text(spec: JobSpec) -> str:
    """As YAML, in the names of its proto."""
    found = value(spec)
    return raw.to_yaml(found) if found else ""


def parse(text: str) -> JobSpec:
    """Raises InvalidArgument with everything that is wrong, at its field."""
    found = document.load(text)
    wrong: list[Violation] = []
    if isinstance(found, dict) and found.keys() <= {"spec", "create_spec", "createSpec", "job_id"}:
        # The body of a request, pasted.
        found = found.get("spec", {})
    spec = JobSpec()
    if not isinstance(found, dict) or not found:
        raise InvalidArgument.at("", "must be a mapping of the fields of a job spec: name, instance_count …")
    _read(found, spec, "", wrong)
    if wrong:
        raise InvalidArgument.of(wrong[:_ENOUGH])
    return bare(spec)


def _read(found: object, message: Any, path: str, wrong: list[Violation]) -> None:
    """Field by field, so that one mistake hides no other."""
    if not isinstance(found, dict):
        wrong.append(Violation(path, "must be a mapping of fields"))
        return
    message.SetInParent()
    seen: set[str] = set()
    for key, item in found.items():
        at = f"{path}.{key}" if path else key
        field = _field(message.DESCRIPTOR, key)
        if field is None:
            wrong.append(Violation(at, _unknown(message.DESCRIPTOR, key)))
        elif field.name in seen:
            wrong.append(Violation(at, "is given twice, in two spellings"))
        elif item is not None:
            seen.add(field.name)
            _set(item, message, field, at, wrong)


def _set(item: object, message: Any, field: Any, at: str, wrong: list[Violation]) -> None:
    kind = field.message_type
    target = getattr(message, field.name)
    if kind is None or kind.full_name.startswith("google."):
        _scalar(item, message, field, at, wrong)
    elif kind.GetOptions().map_entry:
        if kind.fields_by_name["value"].message_type is None or not isinstance(item, dict):
            _scalar(item, message, field, at, wrong)
            return
        for key, entry in item.items():
            inner = f"{at}[{key}]"
            if key.isascii() and key.isdigit() and int(key) < 1 << 32:
                _read(entry, target[int(key)], inner, wrong)
            else:
                wrong.append(Violation(inner, "is no number of an instance"))
    elif field.is_repeated:
        if not isinstance(item, list):
            wrong.append(Violation(at, "must be a list"))
            return
        for index, entry in enumerate(item):
            _read(entry, target.add(), f"{at}[{index}]", wrong)
    else:
        _read(item, target, at, wrong)


def _scalar(item: object, message: Any, field: Any, at: str, wrong: list[Violation]) -> None:
    alone = type(message)()
    try:
        json_format.ParseDict({field.name: item}, alone)
    except (json_format.Error, ValueError, TypeError, OverflowError, AttributeError):
        wrong.append(Violation(at, _wanted(field, item)))
        return
    message.MergeFrom(alone)


def _wanted(field: Any, item: object) -> str:
    """What a value should have been."""
    said = str(raw.to_json(item)).strip()
    kind = field.cpp_type
    if field.is_repeated:
        return "must be a list of what the field takes"
    if field.enum_type is not None:
        known = ", ".join(value.name for value in field.enum_type.values[:12])
        return f"is {said[:60]}; it must be one of {known}"
    if kind == field.CPPTYPE_STRING:
        return f"is {said[:60]}; it must be text: put it in quotes"
    if kind == field.CPPTYPE_BOOL:
        return f"is {said[:60]}; it must be true or false"
    if kind in (field.CPPTYPE_DOUBLE, field.CPPTYPE_FLOAT):
        return f"is {said[:60]}; it must be a number"
    unsigned = kind in (field.CPPTYPE_UINT32, field.CPPTYPE_UINT64)
    return f"is {said[:60]}; it must be a whole number{' from 0' if unsigned else ''}"


def _field(descriptor: Any, key: str) -> Any:
    return descriptor.fields_by_name.get(key) or descriptor.fields_by_camelcase_name.get(key)


def _unknown(descriptor: Any, key: str) -> str:
    near = difflib.get_close_matches(key, descriptor.fields_by_name, 1)
    if near:
        return f"is no field; perhaps {near[0]}"
    return f"is no field; there are {', '.join(list(descriptor.fields_by_name)[:12])}"


# --- where in the text a field is ---------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Mistake:
    """`line`: where in the text its field stands, or the nearest field around it; 0 for nowhere."""

    field: str
    description: str
    line: int
    said: str


def mistakes(wrong: Iterable[Violation], text: str) -> list[Mistake]:
    """In the order of the text."""
    wrong, lines = list(wrong), text.splitlines()
    if any(one.field == UNREADABLE for one in wrong):
        # Not to be read again: what is wrong may be that it has no end of nesting.
        return [_mistake(Violation("", _plain(one.description)), _told_line(one), lines) for one in wrong]
    root = yaml.compose(text, _Loader)
    found = [_mistake(one, _line(root, one.field), lines) for one in wrong]
    return sorted(found, key=lambda one: one.line)


def _plain(text: str) -> str:
    return " ".join(re.sub(r'in "<unicode string>", line \d+, column \d+', "", text).split())


def _told_line(one: Violation) -> int:
    match = re.search(r"line (\d{1,7})", one.description)
    return int(match[1]) if match else 0


def _mistake(one: Violation, line: int, lines: list[str]) -> Mistake:
    said = lines[line - 1].strip() if 0 < line <= len(lines) else ""
    return Mistake(one.field, one.description, line, said)


def _line(node: Any, path: str) -> int:
    """Of the last part of the path that is there, from 1; 0 when nothing of it is."""
    line = 0
    for part in re.findall(r"[^.\[\]]+", path):
        if isinstance(node, yaml.MappingNode):
            names = (part, _camel(part))
            fits = [(key, value) for key, value in node.value if key.value in names]
            if not fits:
                return line
            key, node = next((pair for pair in fits if pair[0].value == part), fits[0])
            line = key.start_mark.line + 1
        elif isinstance(node, yaml.SequenceNode) and part.isdigit() and int(part) < len(node.value):
            node = node.value[int(part)]
            line = node.start_mark.line + 1
        else:
            return line
    return line


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)


# --- what a service says of one -----------------------------------------------------------------


def violations(failure: Failure) -> tuple[Violation, ...]:
    """What is wrong with a spec, at its fields; empty when that is not why the call failed. What the
    runtime cannot do is told in the message alone."""
    if failure.code not in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNIMPLEMENTED):
        return ()
    if failure.violations:
        return tuple(Violation(_own(one.field), one.description) for one in failure.violations)
    found = []
    for part in failure.message.split("; "):
        match = _PATH.fullmatch(part)
        if match is None:
            return ()
        found.append(Violation(_own(match[1]), match[2]))
    return tuple(found)


def _own(path: str) -> str:
    """In the spec rather than in the request."""
    return path.removeprefix("spec").lstrip(".")


# --- differences --------------------------------------------------------------------------------


def difference(before: str, after: str, *, context: int = 3) -> tuple[Line, ...]:
    """Between two texts; empty when they are the same."""
    return tuple(_difference(before.splitlines(), after.splitlines(), context))[:MAX_LINES]


def _difference(before: list[str], after: list[str], context: int) -> Iterator[Line]:
    tones: dict[str, Tone] = {"+": "added", "-": "removed", " ": "same"}
    for index, line in enumerate(list(difflib.unified_diff(before, after, lineterm="", n=context))[2:]):
        if line.startswith("@@"):
            if index:
                yield Line("gap", "⋯")
        else:
            yield Line(tones[line[0]], line[1:])


def changes(before: JobSpec, after: JobSpec) -> tuple[FieldChange, ...]:
    """Field by field, to the leaves."""
    old, new = dict(_leaves(value(before))), dict(_leaves(value(after)))
    return tuple(
        FieldChange(path, old.get(path, ""), new.get(path, ""))
        for path in dict.fromkeys([*old, *new])
        if old.get(path) != new.get(path)
    )


def overlaps(base: JobSpec, theirs: JobSpec, mine: JobSpec) -> list[Overlap]:
    """Fields that both changed, to different values."""
    their = {change.path: change for change in changes(base, theirs)}
    return [
        Overlap(change.path, change.before, their[change.path].after, change.after)
        for change in changes(base, mine)
        if change.path in their and their[change.path].after != change.after
    ]


def merged(base: JobSpec, theirs: JobSpec, mine: JobSpec) -> JobSpec:
    """Theirs with what `mine` changed of `base`; what both changed is mine."""
    found = _merged(value(base), value(theirs), value(mine))
    return parse(raw.to_json(found))


def _merged(base: Any, theirs: Any, mine: Any) -> Any:
    if mine == base:
        return theirs
    if theirs == base:
        return mine
    if isinstance(theirs, dict | list) != isinstance(mine, dict | list):
        # One of both took all of it away.
        theirs, mine = theirs or type(mine)(), mine or type(theirs)()
    if isinstance(theirs, dict) and isinstance(mine, dict):
        before = base if isinstance(base, dict) else {}
        keys = dict.fromkeys([*theirs, *mine])
        found = {key: _merged(before.get(key), theirs.get(key), mine.get(key)) for key in keys}
        return {key: item for key, item in found.items() if item is not None}
    if isinstance(theirs, list) and isinstance(mine, list):
        named = [_by_name(each) for each in (base or [], theirs, mine)]
        if None not in named:
            return list(_merged(*named).values())
    return mine


def _by_name(found: list[Any]) -> dict[str, Any] | None:
    """The entries of a list by what tells them apart; None for one whose entries nothing tells apart."""
    names = [str(entry.get("name") or entry.get("key")) for entry in found if isinstance(entry, dict)]
    return dict(zip(names, found, strict=True)) if len(set(names)) == len(found) else None


def _leaves(found: object, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(found, dict):
        for key, item in found.items():
            yield from _leaves(item, f"{path}.{key}" if path else str(key))
    elif isinstance(found, list):
        for name, item in (_by_name(found) or dict[Any, Any](enumerate(found))).items():
            yield from _leaves(item, f"{path}[{name}]")
    else:
        yield path, str(found)


def digest(*messages: Message) -> str:
    """Equal for what is the same."""
    found = hashlib.sha256()
    for message in messages:
        body = message.SerializeToString(deterministic=True)
        found.update(b"%d\n%b" % (len(body), body))
    return found.hexdigest()


def of_field(wrong: Iterable[Violation], paths: Mapping[str, str]) -> tuple[dict[str, str], list[Violation]]:
    """By the field of a form that stands for the longest beginning of each path, and the rest."""
    found: dict[str, str] = {}
    rest: list[Violation] = []
    for one in wrong:
        fits = [path for path in paths if one.field == path or one.field.startswith((f"{path}.", f"{path}["))]
        if not fits:
            rest.append(one)
            continue
        name = paths[max(fits, key=len)]
        found[name] = f"{found[name]}; {one.description}" if name in found else one.description
    return found, rest
