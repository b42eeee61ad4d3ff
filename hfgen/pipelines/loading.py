"""Loading checkpoints: strict about classes and keys, safetensors only, no remote code."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, NamedTuple

import torch

from hfgen.bars import without_bars
from hfgen.ctrl_c import ctrl_c
from hfgen.errors import ModelError, SettingsError
from hfgen.hub.downloads import LocalFiles
from hfgen.pipelines import hfgen_pipelines_v1 as pipelines
from hfgen.pipelines.adjust import LARGEST_SIDE, adjust, take_trained_size, whole_settings
from hfgen.pipelines.autoencoder import AutoencoderPipeline
from hfgen.pipelines.known import (
    PIPELINES,
    autoencoder_class,
    class_name,
    component_names,
    network_class,
    opened,
    wrapper,
)
from hfgen.pipelines.places import read_object, resolve_folder
from hfgen.pipelines.schedulers import SCHEDULERS, load_scheduler
from hfgen.pipelines.single_files import load_single_file
from hfgen.pipelines.weights import (
    Tensors,
    TooLarge,
    bounded,
    has_variant,
    is_weights,
    read_headers,
    variant_of,
    weight_files,
)

logger = logging.getLogger("hfgen")

_AGAIN = "the checkpoint is damaged, get it again"
_HUB_OPTIONS = ("token", "cache_dir", "force_download", "local_files_only")


def load(
    model: str | Path,
    *,
    revision: str | None = None,
    variant: str | None = None,
    resolution: int | None = None,
    tile: int | None = None,
    steps: int | None = None,
) -> pipelines.ImagePipeline:
    """Open a checkpoint as the pipeline that it is, in fp32 on the CPU.

    Args:
        model: A run's folder, its `pretrained/`, any folder that `save_pretrained` wrote (of another pipeline the
            autoencoder is taken), a .safetensors file, or `org/name[/folder][@revision]`.
        revision: Branch, tag or commit of a Hub repository.
        variant: Of the weights, such as fp16; None: the plain ones, or the only ones.
        resolution: Side of the images, where the networks allow another than they were trained at; see
            `ImagePipeline.resize`.
        tile: Side of the tiles, in pixels, in which an autoencoder encodes and decodes larger images; see
            `hfgen.autoencoders.tiles`.
        steps: In which an image is drawn, where the model draws in several; see `ImagePipeline.set_steps`.

    Raises:
        ModelError: nothing is there, it is damaged, or of a kind that hfgen doesn't know.
        SettingsError: images of this resolution don't fit the networks, or there are no such tiles or steps.
    """
    options: dict[str, Any] = {"resolution": resolution, "tile": tile, "steps": steps}
    return open_model(model, revision=revision, variant=variant, **options).pipeline


class Opened(NamedTuple):
    """A pipeline, and the folder (or the .safetensors file) on this machine that it is from."""

    pipeline: pipelines.ImagePipeline
    folder: Path


def open_model(
    model: str | Path,
    *,
    revision: str | None = None,
    variant: str | None = None,
    resolution: int | None = None,
    tile: int | None = None,
    steps: int | None = None,
) -> Opened:
    """`load`, with the place of the model."""
    if not isinstance(model, (str, Path)):
        raise ModelError(f"model: a {type(model).__name__} is no address; save_pretrained(FOLDER), and give the folder")
    resolution, tile, steps = whole_settings(resolution, tile, steps)
    folder = resolve_folder(model, revision, variant)
    pipeline = _open(folder, str(model), None, variant, torch.float32, {})
    adjust(pipeline, str(model), resolution, tile, steps)
    return Opened(pipeline, folder)


def from_pretrained(cls: type, place: str | Path, **options: Any) -> Any:
    """What `cls.from_pretrained` does where hfgen is: `load`, with the options of diffusers that make sense here.

    Args:
        cls: The pipeline that is expected.
        place: MODEL.
        options: `torch_dtype` or `dtype`, `variant`, `revision`, components by name, and `token`, `cache_dir`,
            `force_download`, `local_files_only`.

    Raises:
        ModelError: another pipeline is there, or the checkpoint is damaged.
        SettingsError: an option that isn't among those.
    """
    hub = {name: options.pop(name) for name in _HUB_OPTIONS if options.get(name) is not None}
    revision, variant = options.pop("revision", None), options.pop("variant", None)
    given, dtype = options.pop("torch_dtype", None), options.pop("dtype", None)
    dtype = dtype or given or torch.float32
    components = {name: options.pop(name) for name in getattr(cls, "component_names", ()) if name in options}
    defaults = {"use_safetensors": (None, True), "low_cpu_mem_usage": (None, True), "trust_remote_code": (None, False)}
    wrong = [name for name, value in options.items() if value not in defaults.get(name, (None,))]
    if not isinstance(dtype, torch.dtype):
        raise SettingsError(f"torch_dtype: {dtype!r} isn't a torch.dtype; give one, such as torch.bfloat16")
    if wrong:
        remedy = "leave it out, or use DiffusionPipeline.from_pretrained with trust_remote_code=True"
        raise SettingsError(f"{wrong[0]}: {options[wrong[0]]!r} isn't supported by {cls.__name__}; {remedy}")
    folder = resolve_folder(place, revision, variant, **hub)
    return _open(folder, str(place), cls, variant, dtype, components)


# So that the file that travels needs no hfgen, and its classes need no remote code here.
pipelines.ImagePipeline.strict_loader = staticmethod(from_pretrained)


def _open(
    folder: Path, model: str, expected: type | None, variant: str | None, dtype: torch.dtype, given: dict[str, Any]
) -> Any:
    """The pipeline of a place on this machine; `given` networks are taken instead of its own."""
    if folder.is_file():
        cls, networks = _open_file(folder, dtype)
    elif (folder / "model_index.json").is_file():
        index = read_object(folder / "model_index.json")
        cls = PIPELINES[class_name(index.get("_class_name"))]
        _check_expected(model, cls, expected)
        parts = component_names(cls.__name__, index)
        networks = {
            part: _load_component(folder / part, class_name(index.get(part)), variant, dtype)
            for part in parts
            if part not in given
        }
    else:
        name = _written_class(folder)
        cls = _alone(name, folder)
        _check_expected(model, cls, expected)
        networks = {cls.component_names[0]: _load_component(folder, name, variant, dtype)}
    _check_expected(model, cls, expected)
    try:
        pipeline = cls(**{**networks, **given})
        _check_pipeline(pipeline)
        take_trained_size(pipeline, folder, part_of_own=_is_part_of_own(folder))
    except ModelError as error:
        raise ModelError(str(error).replace("model: ", f"model: {model}: ", 1)) from None
    except ValueError as error:
        raise ModelError(f"model: {model}: {_line(error)}") from None
    except Exception as error:  # On odd configs the libraries raise almost anything.
        raise ModelError(f"model: {model} can't be used: {_line(error)}; {_AGAIN}") from error
    return pipeline


def _open_file(path: Path, dtype: torch.dtype) -> tuple[type, dict[str, Any]]:
    """The pipeline class and the network of a .safetensors file, which may lie in a folder with its config."""
    named, variant = is_weights(path.name), variant_of(path.name)
    name = _written_class(path.parent) if (path.parent / "config.json").is_file() else None
    if not named or name is None:
        return AutoencoderPipeline, {"autoencoder": load_single_file(path, dtype, autoencoder_class(name))}
    cls = _alone(name, path.parent)
    return cls, {cls.component_names[0]: _load_component(path.parent, name, variant, dtype, exact=True)}


def _alone(name: str | None, folder: Path) -> type[pipelines.ImagePipeline]:
    """The pipeline that the network of a folder becomes.

    Raises:
        ModelError: none.
    """
    cls = wrapper(name)
    if cls is None:
        raise ModelError(f"model: {folder / 'config.json'} is of a {name}, which hfgen doesn't open alone")
    vae, prior = pipelines.VAEPipeline.component_names
    if folder.name != vae or not _is_part_of_own(folder):
        return cls
    # Beside a fitted prior that is left behind, N(0, I) would draw what the model never draws. Of a part that is
    # fetched from the Hub its folder isn't there.
    has_prior = class_name(read_object(folder.parent / "model_index.json").get(prior)) is not None
    return cls if has_prior else pipelines.VAEPipeline


def _is_part_of_own(folder: Path) -> bool:
    """Whether a network lies in a pipeline of hfgen: then what its config says of sizes and priors holds."""
    index = folder.parent / "model_index.json"
    return index.is_file() and class_name(read_object(index).get("_class_name")) in PIPELINES


def _check_expected(model: str, cls: type, expected: type | None) -> None:
    if expected is not None and not issubclass(cls, expected):
        raise ModelError(
            f"model: {model} holds a {cls.__name__}, not a {expected.__name__}; "
            f"open it with {cls.__name__} or hfgen.load"
        )


def _check_pipeline(pipeline: pipelines.ImagePipeline) -> None:
    """Refuse sizes that can't be meant, and an autoencoder whose images don't come back as they were.

    Raises:
        ValueError: the config's field is named.
    """
    trained = pipeline.trained_size
    if trained is not None and (type(trained) is not int or not 1 <= trained <= LARGEST_SIDE):
        raise ValueError(f"sample_size: {trained!r} isn't a number of pixels, 1 to {LARGEST_SIDE}; {_AGAIN}")
    side, channels = pipeline.sample_size, pipeline.channels
    if channels not in (1, 3):
        raise ValueError(f"out_channels: {channels!r} channels; hfgen takes 1 (grey) or 3 (RGB)")
    if pipeline.any_size:
        _round_side(pipeline)
    if pipeline.can_sample and min(pipeline.latent_shape) < 1:
        raise ValueError(f"sample_size: {side} pixels give a latent of {pipeline.latent_shape}; {_AGAIN}")
    pipeline.probe()


def _round_side(pipeline: pipelines.ImagePipeline) -> None:
    """`sample_size` is what a model was trained at: an odd one is no reason to refuse the model."""
    side, factor = pipeline.sample_size, pipeline._factor
    if side % factor:
        pipeline.resize(max(1, side // factor) * factor)
        logger.warning("sample_size: %d isn't a multiple of %d; %d is taken", side, factor, pipeline.sample_size)


def _written_class(folder: Path) -> str | None:
    """The class that a network's config.json names."""
    config = read_object(folder / "config.json")
    return class_name(config.get("_class_name") or config.get("architectures"))


@ctrl_c()
def _load_component(
    folder: Path, name: str | None, variant: str | None, dtype: torch.dtype, *, exact: bool = False
) -> Any:
    """Load one network from its folder.

    Args:
        folder: Of the network.
        name: Of its class, as model_index.json says.
        variant: Of its weights, where it has such.
        dtype: Of the network.
        exact: No other variant will do.

    Raises:
        ModelError: another class is written there, or keys or shapes differ; they are named.
    """
    if name in SCHEDULERS:
        return load_scheduler(folder, name)
    cls = network_class(name)
    if cls is None:
        said = f"the class {name}, which hfgen doesn't know" if name else "no class for it"
        raise ModelError(f"{folder}: model_index.json names {said}; hfgen opens {opened()}")
    written = _written_class(folder)
    if written != name:
        raise ModelError(f"{folder}: holds a {written}, not a {name}; the checkpoint is mixed up, get it again")
    files = LocalFiles(folder)
    wanted = variant if exact or (variant and has_variant(files, "", variant)) else None
    paths, chosen = weight_files(files, "", str(folder), wanted)
    tensors = read_headers([folder / path for path in paths if path.endswith(".safetensors")])
    _check_config(cls, folder, tensors)
    try:
        with without_bars("transformers"), without_bars("diffusers"):
            options = {"variant": chosen, "use_safetensors": True, "output_loading_info": True}
            component, info = cls.from_pretrained(folder, **{_dtype_option(cls): dtype}, **options)
    except Exception as error:  # On odd weights the libraries raise almost anything.
        raise ModelError(f"{folder} can't be loaded: {_line(error)}; get the checkpoint again") from error
    # Of sharded weights diffusers doesn't report what is missing, and leaves it without memory.
    unset = [name for name, tensor in component.state_dict().items() if tensor.is_meta]
    _check_keys(folder, {**info, "missing_keys": [*info["missing_keys"], *unset]})
    return component.eval()


def _check_config(cls: Any, folder: Path, tensors: Tensors) -> None:
    """Build the network without memory, and compare it with what the weights' files say that they hold.

    Raises:
        ModelError: the config describes none, one far larger than its weights, or other shapes.
    """
    try:
        with torch.device("meta"), bounded(tensors):
            if hasattr(cls, "load_config"):
                network = cls.from_config(cls.load_config(folder, local_files_only=True))
            else:
                network = cls(cls.config_class.from_pretrained(folder))
        shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    except TooLarge:
        raise ModelError(
            f"{folder}: config.json describes a network far larger than its weights; get the checkpoint again"
        ) from None
    except Exception as error:  # On odd configs the libraries raise almost anything.
        reason = f"its config.json describes no {cls.__name__} ({_line(error)})"
        raise ModelError(f"{folder} can't be loaded: {reason}; get the checkpoint again") from error
    wrong = [name for name, shape in shapes.items() if tensors.shapes.get(name, shape) != shape]
    _check_keys(folder, {"mismatched_keys": wrong})


def _check_keys(folder: Path, info: dict[str, Any]) -> None:
    wrong = [f"{kind.replace('_', ' ')} {_names(info[kind])}" for kind in _KEY_KINDS if info.get(kind)]
    if wrong:
        raise ModelError(f"{folder}: weights and config don't fit: {'; '.join(wrong)}; get the checkpoint again")


def _dtype_option(cls: Any) -> str:
    """How diffusers and transformers call it; older diffusers know no `dtype`."""
    return "torch_dtype" if hasattr(cls, "load_config") else "dtype"


_KEY_KINDS = ("missing_keys", "unexpected_keys", "mismatched_keys")


def _names(keys: Any) -> str:
    names = sorted(str(key[0] if isinstance(key, tuple) else key) for key in keys)
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
