"""Pipelines: `pipe(batch_size=16).images`, `pipe.reconstruct(images).images`, `pipe(condition=images).images`.

One file without relative imports: it travels with the checkpoint, so that diffusers loads it without hfgen.
"""

from __future__ import annotations

import inspect
import json
import logging
import math
import shutil
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from diffusers import AutoencoderKL, DiffusionPipeline, FlowMatchEulerDiscreteScheduler, UNet2DModel, VQModel
from diffusers.image_processor import VaeImageProcessor
from diffusers.pipelines.pipeline_utils import ImagePipelineOutput
from PIL import Image
from torch import Tensor

logger = logging.getLogger("hfgen")

Generators = torch.Generator | list[torch.Generator] | None


class ImagePipeline(DiffusionPipeline):
    """What the families share. Images are square, of side `sample_size`, with 1 or 3 channels."""

    component_names: ClassVar[tuple[str, ...]] = ()
    strict_loader: ClassVar[Callable[..., Any] | None] = None
    """Loads `(cls, place, **options)` without remote code, where the networks' classes are known already."""
    _side: int | None = None

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **kwargs: Any) -> Any:
        """Load by `strict_loader`; without one, and with `trust_remote_code=True`, as diffusers does."""
        if ImagePipeline.strict_loader is None or kwargs.get("trust_remote_code"):
            return super().from_pretrained(pretrained_model_name_or_path, **kwargs)
        return ImagePipeline.strict_loader(cls, pretrained_model_name_or_path, **kwargs)

    def save_pretrained(
        self,
        save_directory: str | Path,
        safe_serialization: bool = True,
        variant: str | None = None,
        max_shard_size: int | str | None = None,
        push_to_hub: bool = False,
        **kwargs: Any,
    ) -> None:
        """Write safetensors, JSON and this code, so that `DiffusionPipeline.from_pretrained(folder)` loads it.

        Args:
            save_directory: Folder; it is made.
            safe_serialization: True; pickles aren't written.
            variant: Such as fp16, which the weights' files are called after.
            max_shard_size: Of one file of weights, such as "5GB"; None: the library's default.
            push_to_hub: Upload the folder afterwards.
            kwargs: With `push_to_hub`: `repo_id` (the folder's name), `private`, `token`, `commit_message`,
                `create_pr`.

        Raises:
            ValueError: pickles are asked for, or an option is unknown.
        """
        if not safe_serialization:
            raise ValueError("safe_serialization: False would write pickles; leave it out")
        known = ("repo_id", "private", "token", "commit_message", "create_pr")
        wrong = next((name for name in kwargs if name not in known or not push_to_hub), None)
        if wrong is not None:
            raise ValueError(f"{wrong}: unknown; {', '.join(known)} go with push_to_hub=True")
        folder = Path(save_directory)
        options = {"variant": variant, **({} if max_shard_size is None else {"max_shard_size": max_shard_size})}
        self._save(folder, options)
        if push_to_hub:
            _upload(folder, **kwargs)

    def _save(self, folder: Path, options: dict[str, Any]) -> None:
        """What `save_pretrained` writes."""
        index: dict[str, Any] = {"_class_name": _class_reference(type(self), folder)}
        for name in self.component_names:
            component = getattr(self, name)
            if component is None:
                index[name] = [None, None]
                continue
            component.save_pretrained(folder / name, safe_serialization=True, **options)
            index[name] = _class_reference(type(component), folder / name)
        (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")

    @property
    def sample_size(self) -> int:
        """Side of the images, in pixels: what the networks were trained at, or what `resize` chose."""
        return self._side or self._default_size

    @property
    def trained_size(self) -> int | None:
        """Side of the images that the networks were trained on, by their config; None where that doesn't say."""
        return self._backbone.config.sample_size

    @property
    def _default_size(self) -> int:
        return self.trained_size or 0

    def resize(self, side: int) -> None:
        """Take and draw images of another side from now on.

        Raises:
            ValueError: the networks allow none, or not this one.
        """
        if side == self.sample_size:
            return
        if not self.any_size:
            raise ValueError(f"resolution: {side}, but the model's images have {self.sample_size} pixels; leave it out")
        self._check_side(side)
        self._side = side

    def _check_side(self, side: int) -> None:
        factor = self._factor
        if side < 1 or side % factor:
            near = max(1, round(side / factor)) * factor
            raise ValueError(f"resolution: {side} pixels; the model takes multiples of {factor}, such as {near}")

    @property
    def _factor(self) -> int:
        """Side of an image over that of its latent."""
        return 2 ** (len(self._backbone.config.block_out_channels) - 1)

    @property
    def channels(self) -> int:
        """1 (grey) or 3 (RGB)."""
        return self._backbone.config.out_channels

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Shape of one latent: (channels, side, side)."""
        side = self.sample_size // self._factor
        return (self._backbone.config.latent_channels, side, side)

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
    def translates(self) -> bool:
        """Whether it makes an image from its condition: what it makes of held-out ones is judged as samples are."""
        return False

    @property
    def any_size(self) -> bool:
        """Whether images may have other sides than `sample_size`; see `resize`."""
        return False

    @property
    def paired_with(self) -> tuple[str, int] | None:
        """(column, channels) of the conditions that follow an image's channels in `reconstruct`; None: no such."""
        return None

    @torch.no_grad()
    def posterior(self, images: Any) -> tuple[Tensor, Tensor] | None:
        """Mean and log variance (N, C, h, w) of q(z | x), a Gaussian; None: the encoder gives none.

        `images` as in `reconstruct`.
        """
        return None

    @torch.no_grad()
    def codes(self, images: Any) -> Tensor | None:
        """Codes (N, L) in [0, `codebook_size`) of images given as in `reconstruct`; None: it has no codebook."""
        return None

    @property
    def codebook_size(self) -> int | None:
        """How many codes there are; None: it has no codebook."""
        return None

    @property
    def num_classes(self) -> int:
        """How many classes an image can be asked of; 0 where it is unconditional."""
        return 0

    @property
    def sampling_options(self) -> tuple[str, ...]:
        """What `__call__` takes beside the number of images and their generator."""
        return ("class_labels",) if self.num_classes else ()

    @property
    def autoencoding_network(self) -> Any:
        """The network with diffusers' `encode` and `decode`; None where there is none."""
        return None

    @property
    def generator_network(self) -> Any:
        """The network that makes images from normal latents (and classes) in one call; None where there is none."""
        return None

    @property
    def parameter_count(self) -> int:
        """Parameters of all networks."""
        parts = (getattr(self, name) for name in self.component_names)
        networks = [part for part in parts if isinstance(part, torch.nn.Module)]
        return sum(parameter.numel() for network in networks for parameter in network.parameters())

    @property
    def sampler(self) -> dict[str, Any] | None:
        """How an image is drawn in several steps, as JSON values; None: in one pass."""
        return None

    def set_steps(self, steps: int) -> None:
        """Draw each image in so many steps from now on.

        Raises:
            ValueError: fewer than 1, or the model draws in one pass.
        """
        raise ValueError(f"steps: a model of family {self.family} draws an image in one pass; leave it out")

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

        Raises:
            ValueError: `batch_size` is below 1, or not the number of generators; or one is no generator.
        """
        if not hasattr(batch_size, "__index__") or batch_size < 1:
            raise ValueError(f"batch_size: {batch_size!r} images can't be drawn; give 1 or more")
        return self._output(self._generate(_one_each(generator, batch_size), **options), output_type)

    def preview(self, images: Tensor, generator: Generators) -> Tensor:
        """As many images in [0, 1] as `images` (N, C, R, R) in [-1, 1], which only some families look at."""
        return self(batch_size=len(images), generator=generator, output_type="pt").images

    @torch.no_grad()
    def probe(self) -> None:
        """Run every network once, on as little as possible; raises what they raise."""
        self._decode(torch.zeros(1, *self.latent_shape, device=self.device, dtype=self._backbone.dtype))

    def _generate(self, generators: Sequence[torch.Generator | None]) -> Tensor:
        return self._decode(self._standard_normal(generators))

    def _decode(self, latents: Tensor) -> Tensor:
        return self._backbone.decode(latents).sample

    def _standard_normal(
        self, generators: Sequence[torch.Generator | None], shape: tuple[int, ...] | None = None
    ) -> Tensor:
        """One latent an image, each drawn by a call of its own: a joint draw would depend on the batch size."""
        drawn = [_draw(torch.randn, shape or self.latent_shape, generator) for generator in generators]
        return torch.stack(drawn).to(self.device, self._backbone.dtype)

    @torch.no_grad()
    def reconstruct(self, images: Any, output_type: str = "pil", **options: Any) -> ImagePipelineOutput:
        """Encode and decode.

        Args:
            images: PIL images of any mode and size, or a float tensor (N, C, R, R) in [-1, 1]; C counts what they are
                `paired_with`. Pictures of a size that the model doesn't take are resized to one that it takes, and
                back.
            output_type: As in `__call__`; sizes that are resized, or differ, only as `pil`.
            options: What the family's encoder takes.

        Raises:
            ValueError: the family has no encoder, or the images have another shape.
        """
        if not self.can_reconstruct:
            raise ValueError(f"{type(self).__name__} has no encoder, so it can't reconstruct; use a VAE or a VQ-VAE")
        channels = self.channels + (self.paired_with[1] if self.paired_with else 0)
        if (pictures := as_pictures(images)) is None:
            return self._output(self._reconstruct(self._input("images", images, channels), **options), output_type)
        taken, sizes = {self._taken(picture.size) for picture in pictures}, [picture.size for picture in pictures]
        resized = set(sizes) != taken
        if output_type != "pil" and (resized or len(taken) > 1):
            raise ValueError(f"output_type: {output_type!r} can't hold images of these sizes; leave it at 'pil'")
        if len(taken) > 1:
            apart = [{**options, **own} for own in _generators_apart(options.get("generator"), len(pictures))]
            made = [self.reconstruct(one, **own).images[0] for one, own in zip(pictures, apart, strict=True)]
            return ImagePipelineOutput(images=made)
        output = self._output(self._reconstruct(self._input("images", pictures, channels), **options), output_type)
        if resized:
            output.images = [_resized(one, size) for one, size in zip(output.images, sizes, strict=True)]
        return output

    def _taken(self, size: tuple[int, int]) -> tuple[int, int]:
        """The size (width, height) at which the networks see a picture of this one."""
        return (self.sample_size, self.sample_size)

    def _input(self, name: str, images: Any, channels: int) -> Tensor:
        """PIL images, which are brought to the size that the networks take, or a tensor as what these take."""
        if (pictures := as_pictures(images)) is not None:
            if not pictures:
                raise ValueError(f"{name}: none are given; pass PIL images, or a tensor in [-1, 1]")
            images = _from_pictures(name, pictures, channels, [self._taken(picture.size) for picture in pictures])
        elif not isinstance(images, Tensor):
            images = VaeImageProcessor(do_resize=False).preprocess(images)
        self._check_size(name, tuple(images.shape[1:]), channels)
        return images.to(self.device, self._backbone.dtype)

    def _check_size(self, name: str, shape: tuple[int, ...], channels: int) -> None:
        """Refuse another shape of an image than the networks take."""
        expected = (channels, self.sample_size, self.sample_size)
        if shape != expected:
            raise ValueError(f"{name}: shape {shape} doesn't fit the model's {expected}; resize them")

    def _output(self, images: Tensor, output_type: str) -> ImagePipelineOutput:
        return ImagePipelineOutput(images=VaeImageProcessor().postprocess(images.float(), output_type=output_type))


class VAEPipeline(ImagePipeline):
    """A VAE: decodes latents drawn from the prior fitted to its posterior or from N(0, I), and reconstructs."""

    component_names: ClassVar[tuple[str, ...]] = ("vae", "prior")
    _optional_components: ClassVar[list[str]] = ["prior"]

    def __init__(self, vae: AutoencoderKL, prior: Any = None) -> None:
        super().__init__()
        self.register_modules(vae=vae, prior=prior)
        if prior is not None and tuple(prior.config.latent_shape) != self.latent_shape:
            shape = tuple(prior.config.latent_shape)
            raise ValueError(f"prior: it was fitted to latents {shape}, the vae's are {self.latent_shape}; fit another")

    @property
    def autoencoding_network(self) -> Any:
        """See `ImagePipeline`."""
        return self.vae

    @property
    def sampling_options(self) -> tuple[str, ...]:
        """See `ImagePipeline`."""
        return () if self.prior is None else ("prior",)

    @property
    def any_size(self) -> bool:
        """Its layers are convolutions; a fitted prior is of one size."""
        return self.prior is None

    def _taken(self, size: tuple[int, int]) -> tuple[int, int]:
        """As in `ImagePipeline`; where there is no fitted prior, the nearest that the factor divides."""
        if not self.any_size:
            return super()._taken(size)
        width, height = (max(1, round(length / self._factor)) * self._factor for length in size)
        return width, height

    def _check_size(self, name: str, shape: tuple[int, ...], channels: int) -> None:
        """As in `ImagePipeline`; where there is no fitted prior, every size that the factor divides fits."""
        whole = len(shape) == 3 and not any(side % self._factor for side in shape[1:])
        if not (self.any_size and whole and shape[0] == channels):
            super()._check_size(name, shape, channels)

    def _generate(self, generators: Sequence[torch.Generator | None], prior: str | None = None) -> Tensor:
        """Decode latents of the `prior`: `fitted`, which is the default where there is one, or `normal`."""
        return self._decode(self._latents(generators, prior))

    def _latents(self, generators: Sequence[torch.Generator | None], prior: str | None) -> Tensor:
        if prior not in ("fitted", "normal", None):
            raise ValueError(f"prior: {prior!r} is unknown; choose fitted or normal")
        if prior == "fitted" and self.prior is None:
            raise ValueError("prior: no prior was fitted to this model; choose normal")
        if prior == "normal" or self.prior is None:
            return self._standard_normal(generators)
        drawn = [(_draw(torch.randn, self.latent_shape, g), _draw(torch.rand, (), g)) for g in generators]
        normals, uniforms = (torch.stack(numbers).to(self.device) for numbers in zip(*drawn, strict=True))
        return self.prior.sample(uniforms, normals).to(self._backbone.dtype)

    @torch.no_grad()
    def probe(self) -> None:
        """See `ImagePipeline`; a fitted prior has no layers."""
        side = min(self.sample_size // self._factor, 8) * self._factor if self.any_size else self.sample_size
        images = torch.zeros(1, self.channels, side, side, device=self.device, dtype=self._backbone.dtype)
        self._reconstruct(images)

    @torch.no_grad()
    def posterior(self, images: Any) -> tuple[Tensor, Tensor] | None:
        """See `ImagePipeline`."""
        distribution = self.vae.encode(self._input("images", images, self.channels)).latent_dist
        return distribution.mean.float(), distribution.logvar.float()

    def _reconstruct(self, images: Tensor, generator: Generators = None) -> Tensor:
        """Decode the posterior's mean or, with `generator`, a sample of the posterior."""
        posterior = self.vae.encode(images).latent_dist
        if generator is None:
            return self._decode(posterior.mean)
        generators = _one_each(generator, len(images))
        shape = tuple(posterior.mean.shape[1:])
        return self._decode(posterior.mean + posterior.std * self._standard_normal(generators, shape))


class VAEGANPipeline(VAEPipeline):
    """A VAE-GAN: a VAE that was trained against a discriminator as well."""


class ALIPipeline(VAEPipeline):
    """Adversarially learned inference: an encoder and a generator that no likelihood ties together."""


class FlowPipeline(VAEPipeline):
    """A VAE's encoder with another decoder: a flow from noise to an image, given the latent, in `steps` Euler steps.

    The U-Net sees the noisy image and, as further channels, the latent; it gives the velocity (Lipman et al.,
    2210.02747). The VAE's own decoder isn't used.
    """

    component_names = ("vae", "unet", "scheduler", "prior")
    steps: int = 20

    def __init__(
        self, vae: AutoencoderKL, unet: UNet2DModel, scheduler: FlowMatchEulerDiscreteScheduler, prior: Any = None
    ) -> None:
        super().__init__(vae, prior)
        self.register_modules(unet=unet, scheduler=scheduler)
        expected = self.channels + self.latent_shape[0], self.channels, self.sample_size
        found = unet.config.in_channels, unet.config.out_channels, unet.config.sample_size
        if found != expected:
            raise ValueError(f"unet: in_channels, out_channels and sample_size {found} don't fit the vae's {expected}")

    @property
    def any_size(self) -> bool:
        """The U-Net was trained at one size."""
        return False

    @property
    def autoencoding_network(self) -> Any:
        """See `ImagePipeline`: the flow draws the images, not the VAE's decoder."""
        return None

    @property
    def sampling_options(self) -> tuple[str, ...]:
        """See `ImagePipeline`."""
        return (*super().sampling_options, "steps")

    @property
    def sampler(self) -> dict[str, Any] | None:
        """See `ImagePipeline`."""
        return {"scheduler": type(self.scheduler).__name__, "steps": self.steps}

    def set_steps(self, steps: int) -> None:
        """See `ImagePipeline`."""
        self.steps = _checked_steps(steps)

    @torch.no_grad()
    def probe(self) -> None:
        """See `ImagePipeline`."""
        images = torch.zeros(1, self.channels, *[self.sample_size] * 2, device=self.device, dtype=self._backbone.dtype)
        self.flow(self.vae.encode(images).latent_dist.mean, images, 1)

    def draw(self, generators: Sequence[torch.Generator | None], prior: str | None = None) -> tuple[Tensor, Tensor]:
        """Latents (N, c, h, w) of the `prior` and noise (N, C, R, R), both of one image before those of the next."""
        pairs = [(self._latents([one], prior), self._noise([one])) for one in generators]
        latents, noise = (torch.cat(parts) for parts in zip(*pairs, strict=True))
        return latents, noise

    @torch.no_grad()
    def flow(self, latents: Tensor, noise: Tensor, steps: int | None = None) -> Tensor:
        """Images (N, C, R, R) of latents (N, c, h, w) and noise (N, C, R, R), by default in `self.steps` steps.

        Raises:
            ValueError: fewer than 1 step.
        """
        steps = self.steps if steps is None else _checked_steps(steps)
        condition = as_channels(latents, self.vae.config, self.sample_size).to(noise.dtype)
        # Equal steps from noise alone to the image alone; the scheduler's own default ends with one from .001.
        sigmas = [1 - step / steps for step in range(steps)]
        self.scheduler.set_timesteps(sigmas=sigmas, device=noise.device)
        images = noise
        for time in self.scheduler.timesteps:
            seen = torch.cat([images.to(noise.dtype), condition], 1)
            images = self.scheduler.step(self.unet(seen, time).sample.float(), time, images).prev_sample
        return images

    def _noise(self, generators: Sequence[torch.Generator | None]) -> Tensor:
        return self._standard_normal(generators, (self.channels, self.sample_size, self.sample_size))

    def _generate(
        self, generators: Sequence[torch.Generator | None], prior: str | None = None, steps: int | None = None
    ) -> Tensor:
        """Latents of the `prior`, as a VAE's, and from noise to their images in so many `steps`."""
        return self.flow(*self.draw(generators, prior), steps)

    def _reconstruct(self, images: Tensor, generator: Generators = None, steps: int | None = None) -> Tensor:
        """The flow at a sample of the posterior; without `generator` at its mean, with noise that the pixels seed."""
        posterior = self.vae.encode(images).latent_dist
        if generator is None:
            seeded = [torch.Generator().manual_seed(_checksum(image)) for image in images]
            return self.flow(posterior.mean, self._noise(seeded), steps)
        generators = _one_each(generator, len(images))
        shape = tuple(posterior.mean.shape[1:])
        pairs = [(self._standard_normal([one], shape), self._noise([one])) for one in generators]
        normal, noise = (torch.cat(parts) for parts in zip(*pairs, strict=True))
        return self.flow(posterior.mean + posterior.std * normal, noise, steps)


class GANPipeline(ImagePipeline):
    """A GAN: generates from N(0, I), by class where it was trained so. It has no encoder."""

    component_names = ("gan",)

    def __init__(self, gan: Any) -> None:
        super().__init__()
        self.register_modules(gan=gan)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Shape of one latent: (channels, side, side)."""
        return self.gan.latent_shape

    @property
    def num_classes(self) -> int:
        """See `ImagePipeline`."""
        return self.gan.config.num_classes

    @property
    def sampling_options(self) -> tuple[str, ...]:
        """See `ImagePipeline`."""
        return (*super().sampling_options, "truncation")

    @property
    def generator_network(self) -> Any:
        """See `ImagePipeline`."""
        return self.gan

    @torch.no_grad()
    def probe(self) -> None:
        """See `ImagePipeline`."""
        self._generate([torch.Generator().manual_seed(0)])

    def _generate(
        self,
        generators: Sequence[torch.Generator | None],
        class_labels: int | Sequence[int] | Tensor | None = None,
        truncation: float | None = None,
    ) -> Tensor:
        """Generate.

        Args:
            generators: One an image.
            class_labels: One class an image, or one for all; None draws each from its image's generator, which
                moves on alike when they are given: the latents of a seed are the same for every class.
            truncation: Bound on every latent number, in standard deviations: less variety, more typical images.
                N(0, 1) is truncated there, as in BigGAN (Brock et al., 1809.11096, section 3.1), but by inverting
                the distribution function instead of drawing again: an image takes as many random numbers as ever,
                and changes smoothly with the bound.

        Raises:
            ValueError: a class out of range or for a model without classes, or a bound that isn't above 0.
        """
        if truncation is not None and not truncation > 0:
            raise ValueError(f"truncation: {truncation} isn't a bound; give a number above 0, such as 1, or None")
        pairs = [self._draw_one(generator) for generator in generators]
        latents = torch.stack([latent for latent, _ in pairs])
        if truncation is not None:
            latents = _truncate(latents, truncation)
        latents = latents.to(self.device, self.gan.dtype)
        if not self.num_classes and class_labels is None:
            return self.gan(latents)
        if class_labels is None:
            class_labels = [label for _, label in pairs]
        return self.gan(latents, _check_labels(class_labels, len(latents), self.num_classes).to(self.device))

    def _draw_one(self, generator: torch.Generator | None) -> tuple[Tensor, int]:
        """A latent and a class."""
        latent = _draw(torch.randn, self.latent_shape, generator)
        return latent, int(_draw(torch.rand, (), generator) * self.num_classes) if self.num_classes else 0


class VQVAEPipeline(ImagePipeline):
    """A VQ-VAE: decodes codes that its prior, a causal language model, draws; and reconstructs.

    The prior's tokens are the codes, then the start of an image without a class, and that of each class.
    """

    component_names = ("vqvae", "prior")

    def __init__(self, vqvae: VQModel, prior: Any) -> None:
        super().__init__()
        self.register_modules(vqvae=vqvae, prior=prior)
        _, side, _ = self.latent_shape
        codes, config = vqvae.config.num_vq_embeddings, prior.config
        if config.bos_token_id != codes or config.vocab_size <= codes or config.n_positions != side**2:
            raise ValueError(
                f"prior: it draws {config.n_positions} of {config.bos_token_id} codes, and the VQ-VAE has {side**2} of "
                f"{codes}; take the prior that was trained on it"
            )

    @property
    def num_classes(self) -> int:
        """See `ImagePipeline`: those that the prior has a token for."""
        return self.prior.config.vocab_size - self.vqvae.config.num_vq_embeddings - 1

    @property
    def sampling_options(self) -> tuple[str, ...]:
        """See `ImagePipeline`."""
        return (*super().sampling_options, "temperature", "top_k", "guidance_scale")

    @property
    def autoencoding_network(self) -> Any:
        """See `ImagePipeline`."""
        return self.vqvae

    @torch.no_grad()
    def probe(self) -> None:
        """See `ImagePipeline`."""
        side = self.sample_size
        images = torch.zeros(1, self.channels, side, side, device=self.device, dtype=self._backbone.dtype)
        self._decode_codes(_codes(self.vqvae, images))
        self._reconstruct(images)
        self.prior(input_ids=torch.zeros(1, 1, dtype=torch.int64, device=self.device))

    def _generate(
        self,
        generators: Sequence[torch.Generator | None],
        class_labels: int | Sequence[int] | Tensor | None = None,
        temperature: float = 1.0,
        top_k: int | None = None,
        guidance_scale: float = 1.0,
    ) -> Tensor:
        """Draw codes and decode them.

        Args:
            generators: One an image.
            class_labels: One class for all images, or one an image; None draws each image's.
            temperature: Divides the logits; 0 takes the most likely code.
            top_k: Draw among so many most likely codes; None: all.
            guidance_scale: s of uncond + s (cond - uncond), in logits (2207.12598); 1: the class alone, 0: no class.
        """
        self._check_options(temperature, top_k, guidance_scale)
        _, side, _ = self.latent_shape
        # One number a code, and one for the class.
        uniforms = torch.stack([_draw(torch.rand, (side * side + 1,), g).cpu().double() for g in generators])
        starts = self._start_tokens(class_labels, uniforms[:, -1]).to(self.device)
        choose = partial(_choose, temperature=temperature, top_k=top_k)
        uniforms = _wide(uniforms[:, :-1], self.device)
        return self._decode_codes(self._sample_prior(starts, uniforms, choose, guidance_scale))

    def _decode_codes(self, codes: Tensor) -> Tensor:
        """Images of codes (N, L)."""
        _, side, _ = self.latent_shape
        latents = self.vqvae.quantize.embedding(codes).unflatten(1, (side, side)).permute(0, 3, 1, 2)
        return self.vqvae.decode(latents, force_not_quantize=True).sample

    def _check_options(self, temperature: float, top_k: int | None, guidance_scale: float) -> None:
        codes = self.vqvae.config.num_vq_embeddings
        if not 0 <= temperature < math.inf:
            raise ValueError(f"temperature: {temperature} isn't a number from 0 up; 1 samples as trained")
        if top_k is not None and not 1 <= top_k <= codes:
            raise ValueError(f"top_k: {top_k} isn't in 1 to {codes}, the codes that there are")
        if not 0 <= guidance_scale < math.inf:
            raise ValueError(f"guidance_scale: {guidance_scale} isn't a number from 0 up; 1 is no guidance")
        if guidance_scale != 1 and not self.num_classes:
            raise ValueError(f"guidance_scale: {guidance_scale} needs classes, and this model has none; leave it at 1")

    def _start_tokens(self, labels: int | Sequence[int] | Tensor | None, uniforms: Tensor) -> Tensor:
        """What each image begins with (N,); a class that isn't given is drawn by uniforms (N,)."""
        none = self.vqvae.config.num_vq_embeddings
        if labels is None and not self.num_classes:
            return torch.full(uniforms.shape, none)
        if labels is None:
            return none + 1 + (uniforms * self.num_classes).long()
        if not self.num_classes:
            raise ValueError("class_labels: this model has no classes; leave them out")
        chosen = torch.as_tensor(labels).cpu()
        if chosen.numel() not in (1, len(uniforms)) or chosen.is_floating_point():
            raise ValueError(f"class_labels: give one integer, or {len(uniforms)}, one an image")
        wrong = chosen[(chosen < 0) | (chosen >= self.num_classes)]
        if len(wrong):
            raise ValueError(f"class_labels: {int(wrong[0])} isn't in 0 to {self.num_classes - 1}, the model's classes")
        return none + 1 + chosen.flatten().long().expand(len(uniforms))

    def _sample_prior(
        self, starts: Tensor, uniforms: Tensor, choose: Callable[[Tensor, Tensor], Tensor], guidance_scale: float
    ) -> Tensor:
        """Codes (N, L), one after another: `choose` takes each by its logits (N, K) and uniforms (N, L)[:, i]."""
        none = self.vqvae.config.num_vq_embeddings
        guided = guidance_scale != 1
        tokens = torch.cat([starts, torch.full_like(starts, none)]) if guided else starts
        codes, past = [], None
        for uniform in uniforms.T.contiguous():
            output = self.prior(input_ids=tokens[:, None], past_key_values=past, use_cache=True)
            past, logits = output.past_key_values, _wide(output.logits[:, -1, :none], self.device)
            if not torch.isfinite(logits).all():
                raise ValueError("prior: it gives non-finite logits, of which no code can be drawn; train it again")
            if guided:
                with_class, without = logits.chunk(2)
                logits = without + guidance_scale * (with_class - without)
            codes.append(choose(logits, uniform))
            tokens = torch.cat([codes[-1]] * 2) if guided else codes[-1]
        return torch.stack(codes, 1)

    @torch.no_grad()
    def codes(self, images: Any) -> Tensor | None:
        """See `ImagePipeline`."""
        return _codes(self.vqvae, self._input("images", images, self.channels))

    @property
    def codebook_size(self) -> int | None:
        """See `ImagePipeline`."""
        return self.vqvae.config.num_vq_embeddings

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
    def translates(self) -> bool:
        """See `ImagePipeline`."""
        return True

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
            condition: PIL images of any mode and size, which are resized to R x R, or a float tensor (N, C, R, R) in
                [-1, 1].

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

    @torch.no_grad()
    def probe(self) -> None:
        """See `ImagePipeline`; with noise, as in training."""
        shape = (1, self.translator.config.condition_channels, self.sample_size, self.sample_size)
        condition = torch.zeros(shape, device=self.device, dtype=self._backbone.dtype)
        self._generate([torch.Generator().manual_seed(0)], condition)

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


class VQGANPipeline(VQVAEPipeline):
    """A VQGAN: a VQ-VAE that was trained against a discriminator as well."""


def as_pictures(images: Any) -> list[Image.Image] | None:
    """PIL images, one or several, as a list; None of anything else."""
    if isinstance(images, Image.Image):
        return [images]
    pictures = isinstance(images, (list, tuple)) and all(isinstance(image, Image.Image) for image in images)
    return list(images) if pictures else None


def _from_pictures(
    name: str, pictures: Sequence[Image.Image], channels: int, sizes: Sequence[tuple[int, int]]
) -> Tensor:
    """PIL images -> (N, C, H, W) in [-1, 1], each brought to its size (width, height); one line says how many were."""
    if len(set(sizes)) > 1:
        raise ValueError(f"{name}: they differ in size, so they are no batch; give them one by one")
    flat = [_flat(name, picture, channels) for picture in pictures]
    if changed := sum(picture.mode.startswith("I") or picture.has_transparency_data for picture in pictures):
        logger.info("%s: %d of 16 bits, scaled to 8, or transparent, composited on white", name, changed)
    if resized := sum(picture.size != size for picture, size in zip(pictures, sizes, strict=True)):
        logger.info("%s: %d resized to %s x %s pixels, as the model takes them", name, resized, *sizes[0])
    processor = VaeImageProcessor(do_resize=False)
    return processor.preprocess([_resized(picture, size) for picture, size in zip(flat, sizes, strict=True)])


def _resized(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    return picture if picture.size == size else picture.resize(size, Image.Resampling.LANCZOS)


def _flat(name: str, picture: Image.Image, channels: int) -> Image.Image:
    """As mode L (1 channel) or RGB (3): 16 bits are scaled to 8, and transparency is composited on white.

    Raises:
        ValueError: another number of channels, or pixels of an unknown range.
    """
    if channels not in (1, 3):
        raise ValueError(f"{name}: PIL images don't hold the {channels} channels of the model; pass a tensor")
    if picture.mode.startswith("I"):
        # Pillow's own conversion clips at 255.
        levels = np.asarray(picture).astype(np.int64)
        if levels.min() < 0 or levels.max() > 65535:
            raise ValueError(f"{name}: 32-bit integers of unknown range; convert them to mode L or RGB")
        picture = Image.fromarray(((levels * 255 + 32767) // 65535).astype(np.uint8))
    elif picture.mode == "F":
        raise ValueError(f"{name}: floating-point numbers of unknown range; convert them to mode L or RGB")
    elif picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return picture.convert("L" if channels == 1 else "RGB")


def _generators_apart(generator: Any, count: int) -> list[dict[str, Any]]:
    """What each of so many images takes as `generator`: its own of a list."""
    if not isinstance(generator, list):
        return [{}] * count
    return [{"generator": [own]} for own in _one_each(generator, count)]


def _one_each(generator: Any, count: int) -> list[torch.Generator | None]:
    """The generator of each of so many images.

    Raises:
        ValueError: another number of them, or something else.
    """
    generators = generator if isinstance(generator, list) else [generator] * count
    if len(generators) != count:
        raise ValueError(f"generator: {len(generators)} generators for {count} images; give one an image")
    if wrong := [one for one in generators if one is not None and not isinstance(one, torch.Generator)]:
        raise ValueError(f"generator: {wrong[0]!r} is none; give torch.Generator().manual_seed(N), or a list of those")
    return generators


def _upload(
    folder: Path,
    repo_id: str | None = None,
    private: bool | None = None,
    token: str | None = None,
    commit_message: str | None = None,
    create_pr: bool = False,
) -> None:
    """The folder as one commit, as diffusers' `save_pretrained(push_to_hub=True)` makes it."""
    from huggingface_hub import create_repo, upload_folder

    repository = create_repo(repo_id or folder.resolve().name, private=private, token=token, exist_ok=True).repo_id
    upload_folder(
        repo_id=repository,
        folder_path=folder,
        token=token,
        commit_message=commit_message or "Upload a pipeline",
        create_pr=create_pr,
    )


def _codes(vqvae: VQModel, images: Tensor) -> Tensor:
    indices = vqvae.quantize(vqvae.encode(images).latents)[2][2]
    return indices.reshape(len(images), -1)


def _choose(logits: Tensor, uniforms: Tensor, temperature: float, top_k: int | None) -> Tensor:
    """Codes (N,) at which the distribution functions of logits (N, K) pass uniforms (N,) in [0, 1)."""
    if temperature == 0 or top_k == 1:
        return logits.argmax(1)
    if top_k is not None:
        kept = logits.topk(top_k, 1).indices
        logits = torch.full_like(logits, -math.inf).scatter(1, kept, logits.gather(1, kept))
    # Off the largest, since a small temperature takes logits beyond the numbers that there are.
    share = ((logits - logits.amax(1, keepdim=True)) / temperature).softmax(1).cumsum(1)
    return torch.searchsorted(share / share[:, -1:], uniforms[:, None], right=True).squeeze(1)


def as_channels(latents: Tensor, config: Any, side: int) -> Tensor:
    """Latents (N, c, h, w) as channels of an image (N, c, side, side): each number's value all over its cell.

    At unit scale, by what the VAE's config says of them, if it does: u = ((z - shift_factor - latents_mean) /
    latents_std) * scaling_factor.
    """

    def of_channels(name: str, default: float) -> Tensor:
        values = config.get(name) or [default] * latents.shape[1]
        return torch.tensor(values, device=latents.device, dtype=torch.float32)[:, None, None]

    centred = latents.float() - (config.get("shift_factor") or 0.0) - of_channels("latents_mean", 0.0)
    scaled = centred / of_channels("latents_std", 1.0) * config.get("scaling_factor", 1.0)
    return torch.nn.functional.interpolate(scaled, size=(side, side), mode="nearest")


def _checked_steps(steps: int) -> int:
    if not isinstance(steps, int) or steps < 1:
        raise ValueError(f"steps: {steps!r} is no number of steps; give 1 or more, such as 20")
    return steps


def _checksum(image: Tensor) -> int:
    """Of an image in [-1, 1], by its pixels as bytes: the same on every device and in every precision."""
    pixels = ((image.float().cpu().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return zlib.crc32(pixels.contiguous().numpy().tobytes())


def _draw(draw: Any, shape: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
    device = generator.device if generator is not None else "cpu"
    return draw(shape, generator=generator, device=device)


def _wide(numbers: Tensor, device: torch.device) -> Tensor:
    """The numbers on a device in float64, or in float32 on Apple's GPU, which has none."""
    return numbers.to(device, torch.float32 if device.type == "mps" else torch.float64)


def _truncate(numbers: Tensor, bound: float) -> Tensor:
    """Standard normal numbers -> numbers that are distributed as N(0, 1) within [-bound, bound], in the same order.

    On the CPU, in float64.
    """
    inside = torch.special.ndtr(torch.tensor(bound, dtype=torch.float64)) * 2 - 1
    # The lower tail, mirrored: near 1 the distribution function has no digits left.
    wide = numbers.cpu().double()
    tail = torch.special.ndtr(-wide.abs())
    return (torch.special.ndtri(0.5 - inside * (0.5 - tail)).neg() * wide.sign()).to(numbers.dtype)


def _check_labels(class_labels: int | Sequence[int] | Tensor, count: int, classes: int) -> Tensor:
    """One class an image, (count,).

    Raises:
        ValueError: another number of them, one out of range, or a model without classes.
    """
    if not classes:
        raise ValueError("class_labels: the model has no classes; leave them out")
    labels = torch.as_tensor(class_labels, dtype=torch.int64)
    labels = labels.expand(count) if labels.ndim == 0 else labels
    if labels.shape != (count,):
        raise ValueError(f"class_labels: shape {tuple(labels.shape)} for {count} images; give one class, or one each")
    wrong = labels[(labels < 0) | (labels >= classes)]
    if len(wrong):
        raise ValueError(f"class_labels: {int(wrong[0])} is out of range; give 0 to {classes - 1}")
    return labels


def _class_reference(cls: type, folder: Path) -> list[str]:
    """[library, class] as model_index.json names them; a class of hfgen's own is copied with its file."""
    library = cls.__module__.split(".")[0]
    if library in ("diffusers", "transformers"):
        return [library, cls.__name__]
    source = Path(inspect.getfile(cls))
    folder.mkdir(parents=True, exist_ok=True)
    if source.resolve() != (folder / source.name).resolve():
        shutil.copyfile(source, folder / source.name)
    return [source.stem, cls.__name__]
