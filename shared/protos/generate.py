"""Write the Python stubs of shared/protos to shared/pb.

    python shared/protos/generate.py [--if-changed]

protoc writes absolute imports of sibling modules (`from backend.api.v1beta1 import x_pb2`), which
would need shared/pb on sys.path, where packages called `api` and `storage` shadow others. They are
rewritten to relative ones; the proto file names, and with them the descriptors, stay canonical.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import sys
from importlib import metadata
from pathlib import Path

PROTOS = Path(__file__).resolve().parent
PB = PROTOS.parent / "pb"
STAMP = PB / ".stamp"
_IMPORT = re.compile(r"^(from|import) ([\w.]+)( import \w+_pb2)?", re.MULTILINE)


def sources() -> list[str]:
    return sorted(str(path.relative_to(PROTOS)) for path in PROTOS.rglob("*.proto"))


def digest() -> str:
    """Of everything that the output depends on."""
    found = hashlib.sha256(Path(__file__).read_bytes())
    for distribution in ("grpcio-tools", "protobuf"):
        found.update(metadata.version(distribution).encode())
    for name in sources():
        found.update(name.encode() + (PROTOS / name).read_bytes())
    return found.hexdigest()


def relative(text: str, module: Path, roots: set[str]) -> str:
    """`text` with its imports of our own generated packages made relative to `module`."""
    dots = "." * len(module.relative_to(PB).parts)

    def rewrite(match: re.Match[str]) -> str:
        keyword, package, rest = match.groups()
        if package.split(".")[0] not in roots:
            return match.group(0)
        if keyword == "from":
            return f"from {dots}{package}{rest}"
        raise SystemExit(f"{module}: cannot make 'import {package}' relative")

    return _IMPORT.sub(rewrite, text)


def generate() -> None:
    from google.api import annotations_pb2
    from grpc_tools import protoc

    shutil.rmtree(PB, ignore_errors=True)
    PB.mkdir()
    third_party = Path(annotations_pb2.__file__).parents[2]
    builtin = Path(protoc.__file__).parent / "_proto"
    includes = [f"-I{path}" for path in (PROTOS, third_party, builtin)]
    outputs = [f"--{kind}_out={PB}" for kind in ("python", "pyi", "grpc_python")]
    if protoc.main(["protoc", *includes, *outputs, *sources()]) != 0:
        raise SystemExit("the proto files do not compile")
    # protoc spells a folder called x-y as package x_y.
    roots = {name.split("/")[0].replace("-", "_") for name in sources()}
    for module in [*PB.rglob("*.py"), *PB.rglob("*.pyi")]:
        module.write_text(relative(module.read_text(), module, roots))
    for folder in [PB, *(path for path in PB.rglob("*") if path.is_dir())]:
        (folder / "__init__.py").touch()
    STAMP.write_text(digest())


def main() -> None:
    current = STAMP.exists() and STAMP.read_text() == digest()
    if "--if-changed" in sys.argv and current:
        return
    generate()


if __name__ == "__main__":
    main()
