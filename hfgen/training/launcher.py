"""What the launcher asks, in Accelerate's variables, compared with the run's settings: agreed or refused, never both.

`accelerate launch`, with its options or the file of `accelerate config`, hands everything on in variables. Honoured are
mixed_precision no and bf16, the dynamo backend INDUCTOR, processes, devices, CPU affinity, FSDP2. Of FSDP's other
variables (wrapping, prefetch, state dict, loading) no number depends, and the sharding here is `fsdp`'s own.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from hfgen.errors import SettingsError
from hfgen.training.config import RunConfig

_REFUSED = {
    "ACCELERATE_USE_DEEPSPEED": "use_deepspeed",
    "ACCELERATE_USE_MEGATRON_LM": "use_megatron_lm",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "use_parallelism_config",
    "ACCELERATE_IN_TPU_POD": "tpu_use_cluster",
}
"""Engines that aren't supported: variable -> option of `accelerate launch`."""

_DYNAMO_REFUSED = ("FULLGRAPH", "DYNAMIC", "REGIONAL_COMPILATION")
_FSDP_REFUSED = ("OFFLOAD_PARAMS", "ACTIVATION_CHECKPOINTING", "ACTIVATION_CHECKPOINTING_OFFLOAD")


def agree_with_launcher(config: RunConfig, environment: Mapping[str, str] = os.environ) -> tuple[str, str]:
    """(precision, compiled) as `RunConfig` has them: the run's, or the launcher's where the run says auto.

    Raises:
        SettingsError: the two contradict each other, or the launcher asks for what isn't supported.
    """
    for variable, option in _REFUSED.items():
        if _true(environment.get(variable)):
            raise SettingsError(f"{option}: {variable}={environment[variable]} isn't supported; launch without it")
    if environment.get("PJRT_DEVICE", "").upper() == "TPU":
        raise SettingsError("tpu: PJRT_DEVICE=TPU isn't supported; train on a GPU or a CPU")
    _check_accumulation(environment)
    _check_fsdp(environment)
    return _precision(config, environment), _compiled(config, environment)


def fsdp_asked(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the launcher asks for FSDP."""
    return _true(environment.get("ACCELERATE_USE_FSDP"))


def _precision(config: RunConfig, environment: Mapping[str, str]) -> str:
    asked = environment.get("ACCELERATE_MIXED_PRECISION", "no").lower() or "no"
    named = f"mixed_precision: {asked} (ACCELERATE_MIXED_PRECISION)"
    # `accelerate launch` says no where nothing was chosen.
    if asked == "no":
        return config.precision
    if asked != "bf16":
        raise SettingsError(f"{named} isn't supported; launch with --mixed_precision bf16 or no")
    if config.precision == "fp32":
        raise SettingsError(f"{named} contradicts precision fp32; launch with --mixed_precision no")
    return "bf16"


def _compiled(config: RunConfig, environment: Mapping[str, str]) -> str:
    backend = environment.get("ACCELERATE_DYNAMO_BACKEND", "no").upper() or "NO"
    if backend == "NO":
        return config.compiled
    if backend != "INDUCTOR":
        raise SettingsError(
            f"dynamo_backend: {backend} (ACCELERATE_DYNAMO_BACKEND) isn't supported; launch with --dynamo_backend "
            "inductor or no"
        )
    for name in _DYNAMO_REFUSED:
        variable = f"ACCELERATE_DYNAMO_USE_{name}"
        if _true(environment.get(variable)):
            option = f"dynamo_use_{name.lower()}"
            raise SettingsError(f"{option}: {variable}={environment[variable]} isn't supported; launch without it")
    mode = environment.get("ACCELERATE_DYNAMO_MODE", "default") or "default"
    if mode not in ("default", "reduce-overhead"):
        raise SettingsError(
            f"dynamo_mode: {mode} (ACCELERATE_DYNAMO_MODE) isn't supported; launch with --dynamo_mode default or "
            "reduce-overhead"
        )
    if config.compiled not in ("auto", mode):
        raise SettingsError(
            f"dynamo_backend: {backend} {mode} (ACCELERATE_DYNAMO_BACKEND, _MODE) contradicts compiled "
            f"{config.compiled}; launch with --dynamo_backend no, or leave --compiled out"
        )
    if fsdp_asked(environment):
        raise SettingsError(f"dynamo_backend: {backend} doesn't go with FSDP; launch with --dynamo_backend no")
    return mode


def _check_accumulation(environment: Mapping[str, str]) -> None:
    steps = environment.get("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "1")
    if steps not in ("", "1"):
        raise SettingsError(
            f"gradient_accumulation_steps: {steps} (ACCELERATE_GRADIENT_ACCUMULATION_STEPS) isn't supported: a step "
            "sees batch_size images, over all processes; launch without it, and choose --batch_size"
        )
    clipping = environment.get("ACCELERATE_GRADIENT_CLIPPING", "none")
    if clipping.lower() not in ("", "none", "auto"):
        raise SettingsError(
            f"gradient_clipping: {clipping} (ACCELERATE_GRADIENT_CLIPPING) isn't supported: each phase of a family "
            "clips as its recipe needs; launch without it"
        )


def _check_fsdp(environment: Mapping[str, str]) -> None:
    if not fsdp_asked(environment):
        return
    version = environment.get("FSDP_VERSION", "1")
    if version != "2":
        raise SettingsError(f"fsdp_version: {version} isn't supported; launch with --fsdp_version 2")
    for name in _FSDP_REFUSED:
        if _true(environment.get(f"FSDP_{name}")):
            raise SettingsError(f"fsdp_{name.lower()}: true isn't supported; launch without it")
    if environment.get("FSDP_RESHARD_AFTER_FORWARD", "true").lower() in ("false", "0", "no", "off"):
        raise SettingsError("fsdp_reshard_after_forward: false isn't supported; launch with true")


def _true(value: str | None) -> bool:
    return (value or "").lower() in ("1", "true", "yes", "y", "t", "on")
