"""Loading checkpoints: strict about classes and keys, safetensors only, no remote code."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from hfgen.bars import without_bars
from hfgen.errors import UserError
from hfgen.files import read_json
from hfgen.folders import pretrained_folder
from hfgen.models.hfgen_gan_v1 import GANGenerator
from hfgen.models.hfgen_prior_v1 import LatentPrior
from hfgen.models.hfgen_r3gan_v1 import R3Generator
from hfgen.models.hfgen_translator_v1 import Translator
from hfgen.pipelines import hfgen_pipelines_v1 as pipelines

PIPELINES = {
    cls.__name__: cls
    for cls in (
        pipelines.VAEPipeline,
        pipelines.VAEGANPipeline,
        pipelines.VQVAEPipeline,
        pipelines.VQGANPipeline,
        pipelines.GANPipeline,
        pipelines.ALIPipeline,
        pipelines.TranslationPipeline,
        pipelines.AutoencoderPipeline,
    )
}
AUTOENCODERS = ("AutoencoderKL", "VQModel", "AutoencoderTiny", "AutoencoderDC", "AsymmetricAutoencoderKL")


def load(model: str | Path, *, revision: str | None = None) -> pipelines.ImagePipeline:
    """Open a checkpoint as the pipeline that it is.

    Args:
        model: A run's folder, its `pretrained/`, any folder that `save_pretrained` wrote, or `org/name[@revision]`.
        revision: Branch, tag or commit of a Hub repository.

    Raises:
        UserError: nothing is there, it is damaged, or of a kind that hfgen doesn't know.
    """
    return load_pipeline(model, None, revision=revision)


def load_pipeline(model: str | Path, expected: type | None, *, revision: str | None = None) -> Any:
    """`load`, and check that the pipeline is an `expected`."""
    folder = resolve_folder(model, revision)
    if (folder / "config.json").is_file():
        return _wrap_autoencoder(folder, expected)
    index = read_json(folder / "model_index.json")
    name = index.get("_class_name")
    name = name[-1] if isinstance(name, list) else name
    cls = PIPELINES.get(name)
    if cls is None:
        known = f"{', '.join(PIPELINES)}, and diffusers' {', '.join(AUTOENCODERS)}"
        raise UserError(f"model: {model} is a {name}; hfgen opens {known}")
    if expected is not None and not issubclass(cls, expected):
        raise UserError(f"model: {model} holds a {name}, not a {expected.__name__}; open it with {name} or hfgen.load")
    components = {
        part: _load_component(folder / part, index.get(part))
        for part in cls.component_names
        if part not in cls._optional_components or index.get(part) not in (None, [None, None])
    }
    try:
        return cls(**components)
    except ValueError as error:
        raise UserError(f"model: {model}: {error}") from None


def resolve_folder(model: str | Path, revision: str | None = None) -> Path:
    """The local folder of a checkpoint; a Hub repository is downloaded (safetensors and JSON only).

    Raises:
        UserError: there is no such folder or repository.
    """
    path = Path(model)
    if path.is_dir():
        return pretrained_folder(path)
    text = str(model)
    if path.exists() or text.startswith((".", "/", "~")) or text.count("/") != 1:
        raise UserError(f"model: {text} is no folder; give a checkpoint's folder or a Hub id org/name[@revision]")
    repository, _, at = text.partition("@")
    return download(repository, revision or at or None, ("*.json", "*.safetensors"))


def download(repository: str, revision: str | None, patterns: Sequence[str], *, kind: str = "model") -> Path:
    """The files of a Hub repository that match `patterns`, in the cache; `kind` is model or dataset.

    Raises:
        UserError: it can't be had.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(repository, revision=revision, repo_type=kind, allow_patterns=[*patterns]))
    except (HfHubHTTPError, LocalEntryNotFoundError, ValueError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"{kind}: {repository} is no folder here and can't be had from the Hub ({reason}); "
            "check the name, the network and `hf auth whoami`"
        ) from None


def _wrap_autoencoder(folder: Path, expected: type | None) -> Any:
    """A bare autoencoder: an AutoencoderKL is a VAE, which also samples; any other only reconstructs."""
    name = read_json(folder / "config.json").get("_class_name")
    cls: type = pipelines.VAEPipeline if name == "AutoencoderKL" else pipelines.AutoencoderPipeline
    if name not in AUTOENCODERS or expected not in (None, cls):
        wanted = " or ".join(AUTOENCODERS) if expected is None else expected.__name__
        raise UserError(f"model: {folder} holds a {name}, not an {wanted}; give another folder")
    return cls(_load_component(folder, ["diffusers", name]))


def _load_component(folder: Path, reference: Any) -> Any:
    """Load one network from its folder.

    Raises:
        UserError: another class is written there, or keys or shapes differ; they are named.
    """
    cls = _known_class(reference, folder)
    config = read_json(folder / "config.json")
    written = config.get("_class_name") or next(iter(config.get("architectures") or []), None)
    if written != cls.__name__:
        raise UserError(f"{folder}: holds a {written}, not a {cls.__name__}; the checkpoint is mixed up, get it again")
    try:
        with without_bars("transformers"):
            component, info = cls.from_pretrained(folder, use_safetensors=True, output_loading_info=True)
    except (SafetensorError, OSError, RuntimeError, ValueError, TypeError, KeyError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"{folder} can't be loaded: {reason}; get the checkpoint again") from None
    wrong = [f"{kind.replace('_', ' ')} {_names(info[kind])}" for kind in _KEY_KINDS if info.get(kind)]
    if wrong:
        raise UserError(f"{folder}: weights and config don't fit: {'; '.join(wrong)}; get the checkpoint again")
    return component.eval()


_KEY_KINDS = ("missing_keys", "unexpected_keys", "mismatched_keys")


def _names(keys: Any) -> str:
    names = sorted(str(key[0] if isinstance(key, tuple) else key) for key in keys)
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _known_class(reference: Any, folder: Path) -> Any:
    import diffusers
    import transformers

    known = {
        **{name: getattr(diffusers, name) for name in AUTOENCODERS},
        "GPT2LMHeadModel": transformers.GPT2LMHeadModel,
        "GANGenerator": GANGenerator,
        "LatentPrior": LatentPrior,
        "Translator": Translator,
        "R3Generator": R3Generator,
    }
    name = reference[-1] if isinstance(reference, list) and reference else reference
    if name not in known:
        raise UserError(f"{folder}: model_index.json names the class {name}, which hfgen doesn't know")
    return known[name]
