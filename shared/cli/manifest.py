"""`apply`: a manifest, split by the service that keeps each of its lists."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import click
import yaml

from shared.cli import failures, render
from shared.cli import kinds as kinds_module
from shared.cli.kinds import Kinds
from shared.cli.yard import CommandError, Yard, run, where
from shared.pb.roundhouse.admin.v1 import admin_pb2, admin_pb2_grpc
from shared.rpc.client import CallFailed

Admin = admin_pb2_grpc.AdminServiceStub
_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DUMPER: Final = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
# One commit a service, however large: longer than other calls.
_DEADLINE: Final = 120.0


def lists(text: str) -> dict[str, yaml.SequenceNode]:
    """The lists of a manifest by name; those of several documents are joined. Values stay as they
    are written: a date is no date before the service says so. Raises CommandError with the line."""
    try:
        documents = [node for node in yaml.compose_all(text, Loader=_LOADER) if not _is_nothing(node)]
    except yaml.YAMLError as error:
        text = " ".join(str(error).split()).replace('in "<unicode string>", ', "at ")
        raise CommandError(f"the manifest is not YAML: {text}") from error
    found: dict[str, yaml.SequenceNode] = {}
    for document in documents:
        if not isinstance(document, yaml.MappingNode):
            raise CommandError(f"{_at(document)}: a manifest is lists named by kind: `experiments: [...]`")
        seen: set[str] = set()
        for key, value in document.value:
            name = str(key.value)
            if name in seen:
                raise CommandError(f"{_at(key)}: the list {name!r} stands twice")
            seen.add(name)
            if _is_nothing(value):
                value = yaml.SequenceNode("tag:yaml.org,2002:seq", [])
            if not isinstance(value, yaml.SequenceNode):
                raise CommandError(f"{_at(value)}: {name!r} must be a list")
            if name in found:
                found[name].value.extend(value.value)
            else:
                found[name] = value
            _check_keys(value)
    return found


def _check_keys(value: yaml.Node) -> None:
    """Raise CommandError for a key that stands twice below: a service would not know in which line."""
    left, walked = [value], set[int]()
    while left:
        node = left.pop()
        # An alias is the node that it means, and may even mean one around it.
        if id(node) in walked:
            continue
        walked.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            left += reversed(node.value)
        elif isinstance(node, yaml.MappingNode):
            seen: set[str] = set()
            for key, item in node.value:
                if str(key.value) in seen:
                    raise CommandError(f"{_at(key)}: the key {str(key.value)!r} stands twice")
                seen.add(str(key.value))
                left.append(item)


def _is_nothing(node: yaml.Node | None) -> bool:
    return node is None or node.tag == "tag:yaml.org,2002:null"


def _at(node: yaml.Node) -> str:
    mark = node.start_mark
    return f"line {mark.line + 1}" if mark else "the manifest"


def split(found: dict[str, yaml.SequenceNode], known: Kinds) -> dict[str, str]:
    """The manifest of each service. Raises CommandError naming a list that nobody keeps."""
    parts: dict[str, list[tuple[yaml.Node, yaml.Node]]] = {}
    for name, value in found.items():
        place = known.of_list(name)
        if not place.kind.writable:
            raise CommandError(f"{name}: the {place.service} service does not let a manifest write these")
        key = yaml.ScalarNode("tag:yaml.org,2002:str", name)
        parts.setdefault(place.service, []).append((key, value))
    return {
        service: yaml.serialize(
            yaml.MappingNode("tag:yaml.org,2002:map", pairs), Dumper=_DUMPER, allow_unicode=True
        )
        for service, pairs in parts.items()
    }


@click.command("apply")
@click.option("-f", "--file", "path", required=True, help="YAML manifest; - is standard input.")
@click.option("--prune", is_flag=True, help="Delete what the manifest's lists lack.")
@click.option("--dry-run", is_flag=True, help="Show the differences, write nothing.")
@where
def apply(yard: Yard, path: str, prune: bool, dry_run: bool) -> None:
    """Make the stored objects what a manifest says: + created, ~ changed, - deleted.

    One revision a service. When one service refuses its part, the others still get theirs.
    """
    try:
        text = sys.stdin.read() if path == "-" else Path(path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{path}: {getattr(error, 'strerror', None) or 'is not UTF-8 text'}") from error
    found = lists(text)
    if not found:
        raise CommandError(f"{'standard input' if path == '-' else path}: the manifest is empty")
    if not run(_apply(yard, found, prune=prune, dry_run=dry_run)):
        raise SystemExit(1)


async def _apply(yard: Yard, found: dict[str, yaml.SequenceNode], *, prune: bool, dry_run: bool) -> bool:
    known = await kinds_module.ask(yard)
    complete = True
    for service, part in split(found, known).items():
        request = admin_pb2.ApplyRequest(manifest=part, prune=prune, dry_run=dry_run)
        async with yard.client(service) as client:
            try:
                answer = await client.call(Admin, "Apply", request, timeout=_DEADLINE)
            except CallFailed as error:
                text = failures.line(error.failure, service=service, target=client.target)
                click.echo(f"error: {text}", err=True)
                complete = False
                continue
        _show(service, answer, dry_run=dry_run)
    return complete


def _show(service: str, answer: admin_pb2.ApplyResponse, *, dry_run: bool) -> None:
    for difference in answer.differences:
        paths = f": {', '.join(difference.paths)}" if difference.paths else ""
        update = difference.action == admin_pb2.Difference.UPDATE
        mark = render.MARKS[difference.action]
        click.echo(f"{mark} {difference.kind} {difference.name}{paths if update else ''}")
    changed = len(answer.differences)
    done = "would change" if dry_run else "changed"
    click.echo(f"{service}: {changed} {done}, {answer.unchanged} unchanged, revision {answer.revision}")
