"""One original .safetensors file of an AutoencoderKL (`sdxl_vae`, FLUX's `ae`, a whole checkpoint), offline.

Such a file holds no config: it is read from the shapes, then diffusers' `from_single_file` renames the weights.
"""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import Any

import torch

from hfgen.ctrl_c import ctrl_c
from hfgen.errors import ModelError
from hfgen.files import read_json, write_json
from hfgen.pipelines.weights import Tensors, bounded, read_headers

logger = logging.getLogger("hfgen")

Shapes = dict[str, tuple[int, ...]]

_PREFIXES = ("first_stage_model.", "vae.", "")
_REMEDY = "give its folder, with config.json, or org/name/vae"
# What shapes don't tell: Stable Diffusion 1's.
_GROUPS, _SAMPLE_SIZE, _SCALING_FACTOR = 32, 256, 0.18215


@ctrl_c()
def load_single_file(path: Path, dtype: torch.dtype, cls: Any = None) -> Any:
    """The autoencoder of a file in its authors' layout, with or without a diffusion model beside it.

    Args:
        path: Of the file.
        dtype: Of the network.
        cls: The class of autoencoders that a config.json beside the file names, if there is one. Without one it is an
            `AutoencoderKL`, whose shapes say what else is needed.

    Raises:
        ModelError: the file is damaged, or holds no such autoencoder.
    """
    from diffusers import AutoencoderKL

    tensors = read_headers([path])
    if cls not in (None, AutoencoderKL):
        return _load_as(cls, path, dtype, tensors)
    prefix = next((p for p in _PREFIXES if f"{p}encoder.conv_in.weight" in tensors.shapes), None)
    if prefix is None:
        raise ModelError(f"model: {path} holds no autoencoder of Stable Diffusion's or FLUX's layout; {_REMEDY}")
    config = _config({n.removeprefix(prefix): s for n, s in tensors.shapes.items() if n.startswith(prefix)}, path)
    config |= _written(path.parent) if cls is not None else {}
    logger.info(
        "%s: built as its shapes say (%s, %d latent channels); sample_size %s and scaling_factor %g are %s",
        path.name,
        "-".join(map(str, config["block_out_channels"])),
        config["latent_channels"],
        config["sample_size"],
        config["scaling_factor"],
        "assumed" if cls is None else "those of config.json",
    )
    with tempfile.TemporaryDirectory() as folder:
        write_json(Path(folder) / "config.json", {"_class_name": "AutoencoderKL", **config})
        return _loaded(AutoencoderKL, _read(path, prefix), Path(folder), path, dtype, tensors)


def _load_as(cls: Any, path: Path, dtype: torch.dtype, tensors: Tensors) -> Any:
    if not hasattr(cls, "from_single_file"):
        raise ModelError(f"model: {path}: diffusers reads no single file of a {cls.__name__}; {_REMEDY}")
    return _loaded(cls, str(path), path.parent, path, dtype, tensors)


def _loaded(cls: Any, weights: Any, config: Path, path: Path, dtype: torch.dtype, tensors: Tensors) -> Any:
    try:
        with bounded(tensors):
            network = cls.from_single_file(weights, config=str(config), torch_dtype=dtype, local_files_only=True)
    except Exception as error:  # On odd weights diffusers raises almost anything.
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(f"{path} can't be loaded as an {cls.__name__}: {reason}; {_REMEDY}") from error
    absent = sorted(name for name, tensor in network.state_dict().items() if tensor.is_meta)
    if absent:
        raise ModelError(f"{path}: {absent[0]} is missing, with {len(absent) - 1} more; {_REMEDY}")
    return network.eval()


def _written(folder: Path) -> dict[str, Any]:
    """What a config.json says that shapes don't."""
    names = ("sample_size", "scaling_factor", "shift_factor", "latents_mean", "latents_std", "force_upcast")
    written = read_json(folder / "config.json")
    return {name: written[name] for name in names if isinstance(written, dict) and name in written}


def _read(path: Path, prefix: str) -> dict[str, torch.Tensor]:
    """The autoencoder's tensors alone: a whole checkpoint may be larger than the memory."""
    from safetensors import safe_open

    parts = tuple(f"{prefix}{part}" for part in ("encoder.", "decoder.", "quant_conv.", "post_quant_conv."))
    with safe_open(path, framework="pt") as file:
        names = [name for name in file.keys() if name.startswith(parts)]  # noqa: SIM118
        return {name.removeprefix(prefix): file.get_tensor(name) for name in names}


def _config(shapes: Shapes, path: Path) -> dict[str, Any]:
    """The config of an AutoencoderKL of these shapes (Rombach et al., 2112.10752; also SD 2, SDXL, SD 3 and FLUX.1)."""

    def count(pattern: str) -> int:
        return next(number for number in range(len(shapes) + 1) if pattern.format(number) not in shapes)

    blocks, layers = count("encoder.down.{}.block.0.conv1.weight"), count("encoder.down.0.block.{}.conv1.weight")
    needed = ("encoder.conv_in.weight", "encoder.conv_out.weight", "decoder.conv_in.weight", "decoder.conv_out.weight")
    if not blocks or any(len(shapes.get(name, ())) != 4 for name in needed):
        raise ModelError(f"model: {path} holds no autoencoder of Stable Diffusion's or FLUX's layout; {_REMEDY}")
    latents = shapes["decoder.conv_in.weight"][1]
    if shapes["encoder.conv_out.weight"][0] != 2 * latents or any(".attn." in name for name in shapes):
        raise ModelError(f"model: {path} holds an autoencoder that isn't a plain AutoencoderKL; {_REMEDY}")
    return {
        "in_channels": shapes["encoder.conv_in.weight"][1],
        "out_channels": shapes["decoder.conv_out.weight"][0],
        "down_block_types": ["DownEncoderBlock2D"] * blocks,
        "up_block_types": ["UpDecoderBlock2D"] * blocks,
        "block_out_channels": [shapes[f"encoder.down.{block}.block.0.conv1.weight"][0] for block in range(blocks)],
        "layers_per_block": layers,
        "latent_channels": latents,
        "norm_num_groups": _GROUPS,
        "sample_size": _SAMPLE_SIZE,
        "scaling_factor": _SCALING_FACTOR,
        "mid_block_add_attention": "encoder.mid.attn_1.q.weight" in shapes,
        "use_quant_conv": "quant_conv.weight" in shapes,
        "use_post_quant_conv": "post_quant_conv.weight" in shapes,
    }
