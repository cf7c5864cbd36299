"""What must never be in the repository, and what must be documented."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from shared.service.config import SETTINGS

ROOT = Path(__file__).parents[2]
_HOST = re.compile(r"\b(?:files|registry|deb|index)\.[a-z]+\.(?:org|com)\b|\bpyp[i]\.(?:org|io)\b")


def tracked() -> list[Path]:
    names = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.split("\0")
    return [ROOT / name for name in names if name and (ROOT / name).is_file()]


def test_no_file_names_a_registry_host() -> None:
    named = []
    for path in tracked():
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        named += [f"{path.relative_to(ROOT)}: {match[0]}" for match in _HOST.finditer(text)]
    assert not named


def test_every_setting_is_documented_with_its_default() -> None:
    page = (ROOT / "docs/configuration.md").read_text()
    missing = []
    for setting in SETTINGS:
        row = next((line for line in page.splitlines() if line.startswith(f"| `{setting.variable}` |")), "")
        if setting.help not in row or (f"`{setting.default}`" if setting.default else "") not in row:
            missing.append(setting.variable)
    assert not missing, "write docs/configuration.md anew: python -m shared.service.config"


def test_the_page_names_no_setting_that_is_gone() -> None:
    page = (ROOT / "docs/configuration.md").read_text()
    named = set(re.findall(r"^\| `(ROUNDHOUSE_\w+)` \|", page, re.MULTILINE))
    assert named == {setting.variable for setting in SETTINGS}


def test_generated_stubs_are_not_committed() -> None:
    assert not [path for path in tracked() if path.is_relative_to(ROOT / "shared/pb")]
