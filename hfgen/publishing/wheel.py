"""hfgen as it is installed or checked out, as a wheel that jobs and Spaces install."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from importlib.metadata import distribution, version
from pathlib import Path

import hfgen


def write_wheel(folder: Path) -> Path:
    """The installed hfgen as a wheel, which is the same bytes each time."""
    root = Path(hfgen.__file__).parent
    paths = [*root.rglob("*"), *(root / "model_cards").rglob("*")]
    files = {
        f"hfgen/{path.relative_to(root).as_posix()}": path.read_bytes()
        for path in sorted(set(paths))
        if path.is_file() and "__pycache__" not in path.parts
    }
    info = f"hfgen-{version('hfgen')}.dist-info"
    about = distribution("hfgen")
    # Within a checkout, what Python finds first is the egg-info there, which calls it otherwise.
    metadata = about.read_text("METADATA") or about.read_text("PKG-INFO") or ""
    files[f"{info}/METADATA"] = metadata.encode()
    files[f"{info}/entry_points.txt"] = (about.read_text("entry_points.txt") or "").encode()
    files[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: hfgen\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    lines = [f"{name},sha256={_digest(content)},{len(content)}\n" for name, content in files.items()]
    files[f"{info}/RECORD"] = "".join([*lines, f"{info}/RECORD,,\n"]).encode()
    wheel = folder / wheel_name()
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return wheel


def wheel_name() -> str:
    """Its file name."""
    return f"hfgen-{version('hfgen')}-py3-none-any.whl"


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
