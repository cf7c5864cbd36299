"""The requirements: pinned, without hosts, and neither too few nor too many."""

from __future__ import annotations

import ast
import re
import sys
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OURS = {"shared", "services", "admin_ui", "bench", "tests"}
# Run as programs, or needed by what is installed: nothing imports them.
NOT_IMPORTED = {"supervisor", "setuptools"}
# Found in several distributions, or in one of another name that the metadata does not tell.
PROVIDED = {"google.rpc": "googleapis-common-protos", "google.api": "googleapis-common-protos"}
PINNED = sorted(ROOT.glob("requirements*.txt"))


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def wanted(path: Path) -> set[str]:
    """The names in a requirements*.in file."""
    lines = (line.split("#")[0].strip() for line in path.read_text().splitlines())
    return {
        normalized(re.split(r"[\s\[=<>!~;]", line)[0]) for line in lines if line and not line.startswith("-")
    }


def imports(*folders: str) -> dict[str, Path]:
    """Each imported module outside ours and the standard library, with a file that imports it."""
    found: dict[str, Path] = {}
    for folder in folders:
        for path in (ROOT / folder).rglob("*.py"):
            if (ROOT / "shared" / "pb") in path.parents or "testing" in (path.stem, path.parent.name):
                continue
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import):
                    names = [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom) and not node.level:
                    names = [f"{node.module}.{alias.name}" for alias in node.names]
                else:
                    continue
                for name in names:
                    if name.split(".")[0] not in OURS | sys.stdlib_module_names:
                        found[name] = path
    return found


def distributions(module: str) -> set[str]:
    for prefix, distribution in PROVIDED.items():
        if module.startswith(prefix):
            return {distribution}
    top = module.split(".")[0]
    if top == "google":
        return {"protobuf"}
    return {normalized(name) for name in metadata.packages_distributions().get(top, ())}


@pytest.mark.parametrize("path", PINNED, ids=lambda path: path.name)
def test_a_pinned_file_pins_and_names_no_host(path: Path) -> None:
    text = path.read_text()
    assert "://" not in text
    assert "--" not in text
    for line in text.splitlines():
        assert re.fullmatch(r"[a-z0-9._-]+(\[[a-z0-9,-]+\])?==[\w.!+-]+( ; .+)?", line), line


def test_every_wish_is_pinned() -> None:
    for path in PINNED:
        pinned = {normalized(line.split("==")[0].split("[")[0]) for line in path.read_text().splitlines()}
        assert wanted(path.with_suffix(".in")) <= pinned, path.name


def test_both_sets_pin_the_same_versions() -> None:
    pins = [line.partition("==") for line in (ROOT / "requirements.txt").read_text().splitlines()]
    runtime = {name: version for name, _, version in pins}
    for line in (ROOT / "requirements-dev.txt").read_text().splitlines():
        name, _, version = line.partition("==")
        assert runtime.get(name, version) == version


def test_what_we_import_we_require() -> None:
    required = wanted(ROOT / "requirements.in") | wanted(ROOT / "requirements-collect.in")
    missing = {
        module: path.relative_to(ROOT)
        for module, path in imports("shared", "services", "admin_ui").items()
        if not distributions(module) & required
    }
    assert not missing


def test_what_we_require_we_import() -> None:
    used: set[str] = set()
    for module in imports("shared", "services", "admin_ui"):
        used |= distributions(module)
    assert wanted(ROOT / "requirements.in") - used - NOT_IMPORTED == set()
    assert wanted(ROOT / "requirements-collect.in") - used == set()


def test_only_one_module_knows_what_is_optional() -> None:
    """It says what to install; everything else works without."""
    for path in (ROOT / "services").rglob("*.py"):
        if path.name != "credentials.py":
            assert not re.search(r"^(from|import) kubernetes_asyncio", path.read_text(), re.M), path
