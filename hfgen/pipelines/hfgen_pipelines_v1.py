"""Pipelines: `pipe(batch_size=16).images`, `pipe.reconstruct(images).images`, `pipe(condition=images).images`.

One file without relative imports: it travels with the checkpoint, so that diffusers loads it without hfgen.
"""

from __future__ import annotations

import inspect
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from diffusers import AutoencoderKL, DiffusionPipeline, VQModel
from diffusers.image_processor import VaeImageProcessor
from diffusers.pipelines.pipeline_utils import ImagePipelineOutput
from torch import Tensor

Generators = torch.Generator | list[torch.Generator] | None


class ImagePipeline(DiffusionPipeline):
    """What the families share. Images are square, of side `sample_size`, with 1 or 3 channels."""

    component_names: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **kwargs: Any) -> Any:
        """Load strictly and without remote code where hfgen is installed; else as diffusers does."""
        try:
            from hfgen.pipelines.loading import load_pipeline
        except ImportError:
            return super().from_pretrained(pretrained_model_name_or_path, **kwargs)
        return load_pipeline(pretrained_model_name_or_path, cls, **kwargs)

    def save_pretrained(self, save_directory: str | Path, **kwargs: Any) -> None:
        """Write safetensors, JSON and this code, so that `DiffusionPipeline.from_pretrained(folder)` loads it."""
        folder = Path(save_directory)
        index: dict[str, Any] = {"_class_name": _class_reference(type(self), folder)}
        for name in self.component_names:
            component = getattr(self, name)
            component.save_pretrained(folder / name, safe_serialization=True)
            index[name] = _class_reference(type(component), folder / name)
        (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")

    @property
    def sample_size(self) -> int:
        """Side of the images, in pixels."""
        return self._backbone.config.sample_size

    @property
    def channels(self) -> int:
        """1 (grey) or 3 (RGB)."""
        return self._backbone.config.out_channels

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Shape of one latent: (channels, side, side)."""
        config = self._backbone.config
        side = config.sample_size // 2 ** (len(config.block_out_channels) - 1)
        return (config.latent_channels, side, side)

    @property
    def family(self) -> str:
        """`vae`, `vqvae`, `gan`, ..."""
        return type(self).__name__.removesuffix("Pipeline").lower()

    @property
    def can_reconstruct(self) -> bool:
        """Whether it has an encoder."""
        return hasattr(self, "_reconstruct")

    @property
    def can_sample(self) -> bool:
        """Whether it draws images from noise alone."""
        return True

    @property
    def paired_with(self) -> tuple[str, int] | None:
        """(column, channels) of the conditions that follow an image's channels in `reconstruct`; None: no such."""
        return None

    @property
    def parameter_count(self) -> int:
        """Parameters of all networks."""
        return sum(p.numel() for name in self.component_names for p in getattr(self, name).parameters())

    @property
    def _backbone(self) -> Any:
        """The network that draws the pixels."""
        return getattr(self, self.component_names[0])

    @torch.no_grad()
    def __call__(
        self, batch_size: int = 1, generator: Generators = None, output_type: str = "pil", **options: Any
    ) -> ImagePipelineOutput:
        """Generate.

        Args:
            batch_size: Number of images.
            generator: One generator, from which the images draw in turn, or one an image. The i-th image of a
                seed doesn't depend on `batch_size`.
            output_type: `pil`, `np` (N, R, R, C) in [0, 1], or `pt` (N, C, R, R) in [0, 1].
            options: What the family's generator takes.
        """
        if isinstance(generator, list) and len(generator) != batch_size:
            raise ValueError(f"generator: {len(generator)} generators for batch_size {batch_size}; give one an image")
        generators = generator if isinstance(generator, list) else [generator] * batch_size
        return self._output(self._generate(generators, **options), output_type)

    def preview(self, images: Tensor, generator: Generators) -> Tensor:
        """As many images in [0, 1] as `images` (N, C, R, R) in [-1, 1], which only some families look at."""
        return self(batch_size=len(images), generator=generator, output_type="pt").images

    def _generate(self, generators: Sequence[torch.Generator | None]) -> Tensor:
        return self._decode(self._standard_normal(generators))

    def _decode(self, latents: Tensor) -> Tensor:
        return self._backbone.decode(latents).sample

    def _standard_normal(self, generators: Sequence[torch.Generator | None]) -> Tensor:
        """One latent an image, each drawn by a call of its own: a joint draw would depend on the batch size."""
        drawn = [_draw(torch.randn, self.latent_shape, generator) for generator in generators]
        return torch.stack(drawn).to(self.device, self._backbone.dtype)

    @torch.no_grad()
    def reconstruct(self, images: Any, output_type: str = "pil", **options: Any) -> ImagePipelineOutput:
        """Encode and decode.

        Args:
            images: PIL images, or a float tensor (N, C, R, R) in [-1, 1]; C counts what they are `paired_with`.
            output_type: As in `__call__`.
            options: What the family's encoder takes.

        Raises:
            ValueError: the family has no encoder, or the images have another shape.
        """
        if not self.can_reconstruct:
            raise ValueError(f"{type(self).__name__} has no encoder, so it can't reconstruct; use a VAE or a VQ-VAE")
        channels = self.channels + (self.paired_with[1] if self.paired_with else 0)
        return self._output(self._reconstruct(self._input("images", images, channels), **options), output_type)

    def _input(self, name: str, images: Any, channels: int) -> Tensor:
        """PIL images or a tensor as what the networks take."""
        processor = VaeImageProcessor(do_resize=False, do_convert_rgb=channels == 3, do_convert_grayscale=channels == 1)
        tensor = images if isinstance(images, Tensor) else processor.preprocess(images)
        expected = (channels, self.sample_size, self.sample_size)
        if tuple(tensor.shape[1:]) != expected:
            raise ValueError(f"{name}: shape {tuple(tensor.shape[1:])} doesn't fit the model's {expected}; resize them")
        return tensor.to(self.device, self._backbone.dtype)

    def _output(self, images: Tensor, output_type: str) -> ImagePipelineOutput:
        return ImagePipelineOutput(images=VaeImageProcessor().postprocess(images.float(), output_type=output_type))


class VAEPipeline(ImagePipeline):
    """A VAE: decodes latents drawn from N(0, I), and reconstructs."""

    component_names = ("vae",)

    def __init__(self, vae: AutoencoderKL) -> None:
        super().__init__()
        self.register_modules(vae=vae)

    def _reconstruct(self, images: Tensor, generator: Generators = None) -> Tensor:
        """Decode the posterior's mean or, with `generator`, a sample of the posterior."""
        posterior = self.vae.encode(images).latent_dist
        if generator is None:
            return self._decode(posterior.mean)
        generators = generator if isinstance(generator, list) else [generator] * len(images)
        return self._decode(posterior.mean + posterior.std * self._standard_normal(generators))


class VAEGANPipeline(VAEPipeline):
    """A VAE-GAN: a VAE that was trained against a discriminator as well."""


class ALIPipeline(VAEPipeline):
    """Adversarially learned inference: an encoder and a generator that no likelihood ties together."""


class GANPipeline(ImagePipeline):
    """A GAN: generates from N(0, I). It has no encoder."""

    component_names = ("gan",)

    def __init__(self, gan: Any) -> None:
        super().__init__()
        self.register_modules(gan=gan)

    def _decode(self, latents: Tensor) -> Tensor:
        return self.gan(latents)


class VQVAEPipeline(ImagePipeline):
    """A VQ-VAE: decodes codes that its prior, a causal language model, draws; and reconstructs."""

    component_names = ("vqvae", "prior")

    def __init__(self, vqvae: VQModel, prior: Any) -> None:
        super().__init__()
        self.register_modules(vqvae=vqvae, prior=prior)

    def _generate(self, generators: Sequence[torch.Generator | None]) -> Tensor:
        _, side, _ = self.latent_shape
        codes = self._sample_prior(torch.stack([_draw(torch.rand, (side * side,), g) for g in generators]))
        latents = self.vqvae.quantize.embedding(codes).unflatten(1, (side, side)).permute(0, 3, 1, 2)
        return self.vqvae.decode(latents, force_not_quantize=True).sample

    def _sample_prior(self, uniforms: Tensor) -> Tensor:
        """Ancestral sampling: position i inverts its distribution function at uniforms (N, L)[:, i]."""
        uniforms = uniforms.to(self.device)
        start = self.vqvae.config.num_vq_embeddings
        codes = torch.full((len(uniforms), 1), start, device=self.device)
        past = None
        for position in range(uniforms.shape[1]):
            output = self.prior(input_ids=codes[:, -1:], past_key_values=past, use_cache=True)
            past = output.past_key_values
            share = output.logits[:, -1, :start].double().softmax(-1).cumsum(-1)
            drawn = torch.searchsorted(share, uniforms[:, position : position + 1].double()).clamp_max(start - 1)
            codes = torch.cat([codes, drawn], 1)
        return codes[:, 1:]

    def _reconstruct(self, images: Tensor) -> Tensor:
        return self.vqvae.decode(self.vqvae.encode(images).latents).sample


class TranslationPipeline(ImagePipeline):
    """Image to image: `pipe(condition=images)`. To reconstruct is to translate an image's own condition."""

    component_names = ("translator",)

    def __init__(self, translator: Any) -> None:
        super().__init__()
        self.register_modules(translator=translator)

    @property
    def family(self) -> str:
        """How it was trained."""
        return "pix2pix"

    @property
    def can_sample(self) -> bool:
        """It translates conditions, and draws nothing without them."""
        return False

    @property
    def paired_with(self) -> tuple[str, int] | None:
        """The column of its conditions; None where it makes them from the images."""
        config = self.translator.config
        return None if config.condition == "edges" else (config.condition, config.condition_channels)

    def __call__(  # type: ignore[override]
        self,
        batch_size: int | None = None,
        generator: Generators = None,
        output_type: str = "pil",
        condition: Any = None,
    ) -> ImagePipelineOutput:
        """Translate.

        Args:
            batch_size: Number of conditions, which need not be given.
            generator: Where the dropout's noise comes from, one or one an image; without it nothing drops out.
            output_type: As in `ImagePipeline.__call__`.
            condition: PIL images, or a float tensor (N, C, R, R) in [-1, 1].

        Raises:
            ValueError: there is no condition, or it has another shape.
        """
        if condition is None:
            what = self.translator.config.condition
            raise ValueError(f"condition: none given; pass images ({what}) for the model to translate, condition=[...]")
        images = self._input("condition", condition, self.translator.config.condition_channels)
        if batch_size not in (None, len(images)):
            raise ValueError(f"batch_size: {batch_size} for {len(images)} conditions; leave it out")
        return super().__call__(len(images), generator, output_type, condition=images)

    def preview(self, images: Tensor, generator: Generators) -> Tensor:
        """Translations of the images' own conditions."""
        return self.reconstruct(images, output_type="pt").images

    def _generate(self, generators: Sequence[torch.Generator | None], condition: Tensor) -> Tensor:  # type: ignore[override]
        if not generators or generators[0] is None:
            return self.translator(condition)
        shape = self.translator.noise_shape
        noise = torch.stack([_draw(torch.rand, shape, generator) for generator in generators])
        return self.translator(condition, noise.to(condition.device))

    def _reconstruct(self, images: Tensor) -> Tensor:
        return self.translator(self.translator.pair(images)[1])


def _draw(draw: Any, shape: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
    device = generator.device if generator is not None else "cpu"
    return draw(shape, generator=generator, device=device)


def _class_reference(cls: type, folder: Path) -> list[str]:
    """[library, class] as model_index.json names them; a class of our own brings its file along."""
    library = cls.__module__.split(".")[0]
    if library in ("diffusers", "transformers"):
        return [library, cls.__name__]
    source = Path(inspect.getfile(cls))
    folder.mkdir(parents=True, exist_ok=True)
    if source.resolve() != (folder / source.name).resolve():
        shutil.copyfile(source, folder / source.name)
    return [source.stem, cls.__name__]
