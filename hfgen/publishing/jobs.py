"""The same training run on the Hub's own machines: hfgen's wheel and the run's settings, as one Hub Job."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from hfgen.errors import UserError
from hfgen.hub.repository import Repository
from hfgen.publishing.push import BRANCH
from hfgen.publishing.wheel import wheel_name, write_wheel

IMAGE = "ghcr.io/astral-sh/uv:python3.12-bookworm"
_MOUNT = "/job"
_FOLDER = "job"


def job_request(config: dict[str, Any], to: str, flavor: str, *, every: int = 0, timeout: str = "6h") -> dict[str, Any]:
    """The arguments of `huggingface_hub.run_job`, except that secrets are names and volumes JSON.

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
    command = ["uv", "run", "--no-project", "--with", f"{_MOUNT}/{wheel_name()}"]
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
