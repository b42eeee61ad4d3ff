"""Plain diffusers opens a folder and draws its first images; `isolation` runs this text without hfgen.

Arguments: the folder, and the PNG file of a grid of samples, or an empty one. Prints what it found as JSON.
"""

import json
import sys
from pathlib import Path
from typing import Any

SIDE = 4


def main(folder: str, grid: str) -> None:
    """Load, draw, and say what was there."""
    index = Path(folder) / "model_index.json"
    sys.stdout.write(json.dumps(of_pipeline(folder, grid) if index.is_file() else of_network(folder)) + "\n")


def of_network(folder: str) -> dict[str, Any]:
    """A stock autoencoder alone: whether its class loads all of its weights; it draws nothing."""
    import diffusers

    config = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
    name = str(config.get("_class_name"))
    cls: Any = getattr(diffusers, name, None)
    if not (hasattr(cls, "encode") and hasattr(cls, "decode")):
        raise ValueError(f"config.json names {name}, which isn't an autoencoder of diffusers")
    network, info = cls.from_pretrained(folder, use_safetensors=True, output_loading_info=True)
    wrong = [f"{kind} {sorted(map(str, keys))[0]}" for kind, keys in info.items() if keys]
    if wrong:
        raise ValueError(f"weights and config don't fit: {wrong[0]}")
    return {
        "class": name,
        "family": "autoencoder",
        "components": {"autoencoder": ["diffusers", name]},
        "bare": True,
        "parameters": sum(weight.numel() for weight in network.parameters()),
        "samples": False,
        "reconstructs": True,
        "resolution": config.get("sample_size"),
        "channels": config.get("out_channels") or config.get("in_channels") or 3,
        "condition_channels": 0,
    }


def of_pipeline(folder: str, grid: str) -> dict[str, Any]:
    """A pipeline, and its first images."""
    from diffusers import DiffusionPipeline

    pipe = DiffusionPipeline.from_pretrained(folder, trust_remote_code=True)
    pipe.set_progress_bar_config(disable=True)
    samples = getattr(pipe, "can_sample", True)
    images = draw(pipe, SIDE * SIDE if samples and grid else 1)
    if samples and grid:
        sheet(images).save(grid)
    networks = {name: part for name, part in pipe.components.items() if hasattr(part, "parameters")}
    classes = {name: [type(part).__module__.split(".")[0], type(part).__name__] for name, part in networks.items()}
    return {
        "class": type(pipe).__name__,
        "family": getattr(pipe, "family", None),
        "components": classes,
        "bare": False,
        "parameters": sum(weight.numel() for part in networks.values() for weight in part.parameters()),
        "samples": samples,
        "reconstructs": getattr(pipe, "can_reconstruct", False),
        "resolution": images[0].width,
        "channels": len(images[0].getbands()),
        "condition_channels": condition_channels(pipe),
    }


def condition_channels(pipe: Any) -> int:
    """Channels of what it draws from; 0 where that is noise alone."""
    return 0 if getattr(pipe, "can_sample", True) else pipe.translator.config.condition_channels


def draw(pipe: Any, count: int) -> list[Any]:
    """PIL images of the seeds 0, 1, ...; of noise, where the pipeline wants images."""
    import torch
    from diffusers.image_processor import VaeImageProcessor

    generators = [torch.Generator().manual_seed(seed) for seed in range(count)]
    given = {}
    if condition_channels(pipe):
        shape = (count, condition_channels(pipe), pipe.sample_size, pipe.sample_size)
        given["condition"] = torch.rand(shape, generator=generators[0]) * 2 - 1
    drawn = pipe(batch_size=count, generator=generators, output_type="pt", **given).images
    if len(drawn) != count or not torch.isfinite(drawn).all():
        raise ValueError(f"{count} images were asked for; {len(drawn)} came, or some of them have non-finite pixels")
    return VaeImageProcessor().postprocess(drawn, output_type="pil", do_denormalize=[False] * count)


def sheet(images: list[Any]) -> Any:
    """Images in rows, enlarged without smoothing."""
    from PIL import Image

    zoom = max(1, 128 // images[0].width)
    size = images[0].width * zoom
    whole = Image.new(images[0].mode, (SIDE * size, SIDE * size))
    for index, image in enumerate(images):
        place = (index % SIDE * size, index // SIDE * size)
        whole.paste(image.resize((size, size), Image.Resampling.NEAREST), place)
    return whole


if __name__ == "__main__":
    main(*sys.argv[1:])
