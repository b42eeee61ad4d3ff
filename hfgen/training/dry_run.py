"""What a run would do, without its data, its weights or a step."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from hfgen.data.columns import NONE
from hfgen.data_options import BUILT_IN
from hfgen.devices import choose_device
from hfgen.kernels import choose_kernels
from hfgen.training.config import RunConfig
from hfgen.training.launcher import agree_with_launcher

# Of data that isn't opened: as many as ImageNet's.
_CLASSES = 1000


def dry_run(config: RunConfig, device: str = "auto") -> Iterator[tuple[str, str]]:
    """(what, finding), one line each; `device` as `hfgen.devices.choose_device` takes it.

    Raises:
        UserError: no networks can be built from the settings, or the launcher contradicts them.
    """
    kernels = choose_kernels(choose_device(device), *agree_with_launcher(config))
    drawn = BUILT_IN.get(config.data)
    channels = int(config.channels) if config.channels != "auto" else 3 if drawn is None else drawn.channels
    classes = 0 if config.label_column == NONE else _CLASSES if drawn is None else len(drawn.label_names)
    if drawn is None:
        yield "assumed", f"{channels} channels, {classes:,} classes: DATA isn't opened"
    with torch.device("meta"):
        networks = config.model.build(config.resolution, channels, classes)
    for name, network in networks.items():
        count = sum(parameter.numel() for parameter in network.parameters())
        yield name, f"{type(network).__name__}, {count:,} parameters"
    for phase in config.model.phases():
        share = f"{phase.begin:.0%} to {phase.end:.0%} of the run"
        yield f"phase {phase.name}", f"trains {', '.join(phase.trains)} at {phase.lr:g}, {share}"
    steps = -(-config.max_images // config.batch_size)
    yield "steps", f"{steps:,} of {config.batch_size} images of {channels} x {config.resolution} x {config.resolution}"
    yield "kernels", str(kernels)
    for name, value in config.as_dict().items():
        for key, inner in value.items() if isinstance(value, dict) else (("", value),):
            yield f"{name}.{key}".rstrip("."), str(inner)
