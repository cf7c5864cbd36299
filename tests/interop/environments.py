"""Virtual environments for real clients, whose dependencies do not fit beside ours.

Each is made once from a pinned requirements file and kept under `.cache/interop`, in a folder named
after the file's hash and the Python; a changed file makes another one.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".cache" / "interop"
INSTALL_SECONDS = 600


def python_of(requirements: str) -> Path:
    """The Python of the environment that `requirements` (a file's name in the root) describes,
    installed first when it is not there. Safe in several processes at once."""
    file = ROOT / requirements
    digest = hashlib.sha256(file.read_bytes() + sys.version.encode()).hexdigest()[:16]
    home = CACHE / f"{file.stem}-{digest}"
    python = home / "bin" / "python"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{home.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = home / ".done"
        if not done.exists():
            shutil.rmtree(home, ignore_errors=True)
            _install(home, python, file)
            done.touch()
    return python


def _install(home: Path, python: Path, file: Path) -> None:
    _run(sys.executable, "-m", "venv", str(home))
    uv = shutil.which("uv") or shutil.which("uv", path=str(ROOT / ".cache" / "uv" / "bin"))
    if uv:
        _run(uv, "pip", "install", "--quiet", "--python", str(python), "-r", str(file))
    else:
        _run(str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(file))


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_SECONDS)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
