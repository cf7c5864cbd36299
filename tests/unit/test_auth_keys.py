"""Signing keys: made once whoever starts first, rotated by adding a file, never readable by others."""

from __future__ import annotations

import base64
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from shared.auth.keys import KeyFault, KeyRing

ROOT = Path(__file__).parents[2]


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def add(directory: Path, name: str, secret: bytes, mode: int = 0o600) -> Path:
    path = directory / name
    path.write_bytes(base64.urlsafe_b64encode(secret))
    path.chmod(mode)
    return path


def test_first_key_is_made_for_the_owner_alone(tmp_path: Path) -> None:
    directory = tmp_path / "data" / "keys"
    key = KeyRing.open(directory).newest()
    assert key.kid == "0001"
    assert len(key.secret) == 32
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert stat.S_IMODE((directory / "0001.key").stat().st_mode) == 0o600
    assert names(directory) == ["0001.key"]


def test_key_survives_a_restart(tmp_path: Path) -> None:
    assert KeyRing.open(tmp_path).newest() == KeyRing.open(tmp_path).newest()


def test_secret_is_not_printed(tmp_path: Path) -> None:
    key = KeyRing.open(tmp_path).newest()
    assert repr(key.secret) not in repr(key)
    assert "0001" in repr(key)


def test_processes_that_start_at_once_share_one_key(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from shared.auth.keys import KeyRing\n"
        "sys.stdin.readline(); print(KeyRing.open(Path(sys.argv[1])).newest().secret.hex())"
    )
    starting = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path / "keys")],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(5)
    ]
    for process in starting:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    secrets = {process.communicate(timeout=20)[0].strip() for process in starting}
    assert len(secrets) == 1
    assert len(secrets.pop()) == 64
    assert names(tmp_path / "keys") == ["0001.key"]


def test_rotation_reaches_a_ring_that_is_open(tmp_path: Path) -> None:
    ring, peer = KeyRing.open(tmp_path), KeyRing.open(tmp_path)
    first = ring.newest()
    second = peer.rotate()
    assert second.kid == "0002"
    assert second.secret != first.secret
    assert ring.find("0002") == second  # verifies at once
    assert ring.newest() == second  # and signs with it
    assert ring.find("0001") == first  # earlier tokens still verify


def test_newest_is_by_number_not_by_name_or_time(tmp_path: Path) -> None:
    add(tmp_path, "10000.key", b"n" * 32)
    add(tmp_path, "9999.key", b"o" * 32)
    assert KeyRing.open(tmp_path).newest().kid == "10000"


def test_a_deleted_key_no_longer_verifies(tmp_path: Path) -> None:
    ring = KeyRing.open(tmp_path)
    ring.rotate()
    (tmp_path / "0001.key").unlink()
    assert ring.newest().kid == "0002"
    assert ring.find("0001") is None


def test_a_folder_without_keys_cannot_sign(tmp_path: Path) -> None:
    ring = KeyRing.open(tmp_path)
    (tmp_path / "0001.key").unlink()
    with pytest.raises(KeyFault, match="no signing key"):
        ring.newest()


@pytest.mark.parametrize("mode", [0o604, 0o620, 0o644, 0o666])
def test_key_that_others_can_use_is_refused(tmp_path: Path, mode: int) -> None:
    add(tmp_path, "0001.key", b"x" * 32, mode)
    with pytest.raises(KeyFault, match=r"0001\.key has mode 0"):
        KeyRing.open(tmp_path)


def test_key_that_the_group_reads_is_accepted(tmp_path: Path) -> None:
    add(tmp_path, "0001.key", b"x" * 32, 0o440)
    assert KeyRing.open(tmp_path).newest().secret == b"x" * 32


@pytest.mark.parametrize("content", [b"", b"!!!", base64.b64encode(b"short"), b"\xff\xfe" * 40])
def test_file_without_a_key_is_refused_at_start(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "0001.key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(KeyFault, match=r"0001\.key"):
        KeyRing.open(tmp_path)


def test_bad_new_file_does_not_stop_a_running_process(tmp_path: Path) -> None:
    ring = KeyRing.open(tmp_path)
    first = ring.newest()
    add(tmp_path, "0002.key", b"short")
    assert ring.newest() == first
    assert ring.find("0002") is None
    add(tmp_path, "0002.key", b"l" * 32)  # written to the end meanwhile
    assert ring.newest().secret == b"l" * 32


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "README").write_text("not a key")
    (tmp_path / "a.key").write_text("not a key")
    assert KeyRing.open(tmp_path).newest().kid == "0001"
    assert names(tmp_path) == ["0001.key", "README", "a.key"]
