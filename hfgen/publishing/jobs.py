"""The same training run on the Hub's own machines: hfgen's wheel and the run's settings, as one Hub Job."""

from __future__ import annotations

import base64
import hashlib
import tempfile
import zipfile
from importlib.metadata import distribution, version
from pathlib import Path
from typing import Any

import hfgen
from hfgen.errors import UserError
from hfgen.publishing.hub import Repository
from hfgen.publishing.push import BRANCH

IMAGE = "ghcr.io/astral-sh/uv:python3.12-bookworm"
_MOUNT = "/job"
_FOLDER = "job"


def job_request(config: dict[str, Any], to: str, flavor: str, *, every: int = 0, timeout: str = "6h") -> dict[str, Any]:
    """The arguments of `huggingface_hub.run_job`, but that secrets are names and volumes JSON.

    Args:
        config: The run, `RunConfig.as_dict()`.
        to: `org/name`, where the run's checkpoints go; its branch `training` holds what the job needs.
        flavor: Hardware, such as `a10g-small`; `hf jobs hardware` lists it. All of its GPUs are used.
        every: Images between two pushed checkpoints; 0 for the last one only.
        timeout: Longest time that the job may take.

    Raises:
        UserError: the run needs a folder of this machine.
    """
    for field in ("data", "start_from"):
        if config[field] and Path(config[field]).exists():
            raise UserError(f"{field}: {config[field]} is on this machine, where a job can't read; give a Hub id")
    command = ["uv", "run", "--no-project", "--with", f"{_MOUNT}/{_wheel_name()}"]
    command += ["accelerate", "launch", "--module", "hfgen", "train", "--config", f"{_MOUNT}/run.yaml"]
    command += ["--out", "/tmp/run", "--push_to_hub", "--hub_model_id", to, "--push_every", str(every)]
    volume = {"type": "model", "source": to, "mountPath": _MOUNT, "revision": BRANCH, "path": _FOLDER}
    return {
        "image": IMAGE,
        "command": command,
        "flavor": flavor,
        "timeout": timeout,
        "secrets": ["HF_TOKEN"],
        "volumes": [volume],
        "labels": {"hfgen": config["family"]},
    }


def submit(request: dict[str, Any], config: dict[str, Any], to: str, *, private: bool = False) -> str:
    """Send what the job needs to the repository's branch, start it, and return its page.

    A lost answer isn't repeated: it would start, and cost, a second job.

    Raises:
        UserError: the Hub refuses or fails; the message says what to do.
    """
    from huggingface_hub import CommitOperationAdd, Volume, get_token
    from huggingface_hub.utils import yaml_dump

    repository = Repository(to, "model", revision=BRANCH)
    repository.retried(lambda: repository.ensure(private))
    with tempfile.TemporaryDirectory() as folder:
        wheel = write_wheel(Path(folder))
        settings = yaml_dump(config, sort_keys=False).encode()
        additions = [
            CommitOperationAdd(f"{_FOLDER}/{wheel.name}", wheel),
            CommitOperationAdd(f"{_FOLDER}/run.yaml", settings),
        ]
        repository.retried(lambda: repository.commit(additions, [], "What the job needs", repository.head()))
    options = {**request, "volumes": [Volume(**volume) for volume in request["volumes"]]}
    options["secrets"] = {name: get_token() for name in request["secrets"]}
    return repository.once(lambda: repository.api.run_job(**options)).url


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
    wheel = folder / _wheel_name()
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return wheel


def _wheel_name() -> str:
    return f"hfgen-{version('hfgen')}-py3-none-any.whl"


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
