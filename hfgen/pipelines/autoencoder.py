"""An autoencoder of the field as a pipeline: it reconstructs, and draws nothing. It is saved as the stock network."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from diffusers.image_processor import VaeImageProcessor
from diffusers.pipelines.pipeline_utils import ImagePipelineOutput
from PIL import Image
from torch import Tensor

from hfgen.autoencoders import Autoencoder, Encoded
from hfgen.autoencoders.sizes import Noise, default_side, pad_to_factor, reconstruct_any_size
from hfgen.autoencoders.tiles import measure_seams
from hfgen.data.decode import DamagedImage, flatten
from hfgen.images import from_pil, to_float, to_pil, to_uint8
from hfgen.pipelines.hfgen_pipelines_v1 import Generators, ImagePipeline, as_pictures

logger = logging.getLogger("hfgen")


class AutoencoderPipeline(ImagePipeline):
    """Any autoencoder of diffusers: `pipe.reconstruct(images).images`, of any size that it takes.

    Args:
        autoencoder: A network with `encode` and `decode`.

    Raises:
        ModelError: it doesn't give images back with their shape.
    """

    component_names = ("autoencoder",)
    run_size: int | None = None
    """Side of the images of the run that trained it, in pixels, where one is known: the config needn't mean its own."""

    def __init__(self, autoencoder: Any) -> None:
        super().__init__()
        self.register_modules(autoencoder=autoencoder)
        self.codec = Autoencoder(autoencoder)

    def _save(self, folder: Path, options: dict[str, Any]) -> None:
        """The network alone, as its class saves it, so that it takes the place of the one that it came from."""
        self.autoencoder.save_pretrained(folder, safe_serialization=True, **options)

    @property
    def autoencoding_network(self) -> Any:
        """See `ImagePipeline`."""
        return self.autoencoder

    @property
    def trained_size(self) -> int | None:
        """See `ImagePipeline`."""
        return self.run_size or self.codec.trained_side

    @property
    def _default_size(self) -> int:
        return self.run_size or default_side(self.codec)

    @property
    def _factor(self) -> int:
        return self.codec.factor

    @property
    def channels(self) -> int:
        """1 (grey) or 3 (RGB)."""
        return self.codec.channels

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Shape of one latent: (channels, side, side)."""
        side = self.sample_size // self._factor
        return (self.codec.latent_channels, side, side)

    @property
    def can_reconstruct(self) -> bool:
        """That is all that it does."""
        return True

    @property
    def can_sample(self) -> bool:
        """There is no prior."""
        return False

    @property
    def any_size(self) -> bool:
        """Whether it takes every side that its factor divides."""
        return self.codec.any_size

    @property
    def codebook_size(self) -> int | None:
        """See `ImagePipeline`."""
        return self.codec.codebook_size

    def __call__(self, *arguments: Any, **options: Any) -> ImagePipelineOutput:
        """Refuse.

        Raises:
            ValueError: always.
        """
        name = type(self.autoencoder).__name__
        raise ValueError(f"{name} is an autoencoder without a prior, so it can't generate; call reconstruct(images)")

    @torch.no_grad()
    def probe(self) -> None:
        """See `ImagePipeline`; the network was run when this was made."""

    def preview(self, images: Tensor, generator: Generators) -> Tensor:
        """Reconstructions."""
        return self.reconstruct(images, output_type="pt").images

    @torch.no_grad()
    def posterior(self, images: Any) -> tuple[Tensor, Tensor] | None:
        """See `ImagePipeline`."""
        mean, log_variance = self._encode(images)
        return None if log_variance is None else (mean, log_variance)

    @torch.no_grad()
    def codes(self, images: Any) -> Tensor | None:
        """See `ImagePipeline`."""
        return None if not self.codebook_size else self.codec.codes(self._encode(images).mean)

    @torch.no_grad()
    def reconstruct(
        self, images: Any, output_type: str = "pil", generator: Generators = None, **options: Any
    ) -> ImagePipelineOutput:
        """Encode and decode.

        Args:
            images: PIL images of any mode and size, or a float tensor (N, C, H, W) in [-1, 1]. Sides that the factor
                doesn't divide are padded by reflection, and cut again; of a fixed size, PIL images are resized to it
                and back.
            output_type: `pil`, `np` (N, H, W, C) or `pt` (N, C, H, W), both in [0, 1]; sizes that differ only as `pil`.
            generator: Decode samples of the posterior that it draws, one generator or one an image, instead of means.
            options: None.

        Raises:
            ValueError: the images have another number of channels, or sizes that can't be one array.
        """
        if options:
            raise ValueError(f"{next(iter(options))}: the model takes no such option; leave it out")
        if isinstance(images, Tensor):
            return self._output(self._from_tensor(images, generator), output_type)
        pictures = as_pictures(images)
        if pictures is None:
            array = VaeImageProcessor(do_resize=False).preprocess(images)
            return self._output(self._from_tensor(array, generator), output_type)
        made = self._from_pictures(pictures, output_type, generator)
        if output_type == "pil":
            return ImagePipelineOutput(images=made)
        return self._output(torch.stack(made), output_type)

    def _from_tensor(self, images: Tensor, generator: Generators) -> Tensor:
        allowed = {self.channels, self.codec.traits.channels}
        if images.ndim != 4 or images.shape[1] not in allowed:
            given, wanted = tuple(images.shape), " or ".join(map(str, sorted(allowed)))
            raise ValueError(f"images: shape {given} doesn't fit the model's; give (N, {wanted}, H, W)")
        return torch.stack(reconstruct_any_size(self.codec, list(images.to(self.device)), self._noise(generator)))

    def _noise(self, generator: Generators) -> Noise | None:
        """What draws an image's noise; None: no noise."""
        if generator is None:
            return None

        def draw(index: int, shape: tuple[int, ...]) -> Tensor:
            return self._standard_normal([generator[index] if isinstance(generator, list) else generator], shape)[0]

        return draw

    def _from_pictures(self, pictures: list[Image.Image], output_type: str, generator: Generators) -> list[Any]:
        """Reconstructions of PIL images, each of its own size: PIL images, or for other types tensors (C, H, W)."""
        side, sizes = self.codec.traits.side, [picture.size for picture in pictures]
        given = [_flat(picture, self.codec.traits.channels) for picture in pictures]
        _say_changes(change for _, changes in given for change in changes)
        inputs = [picture for picture, _ in given]
        resized = side is not None and set(sizes) != {(side, side)}
        if output_type != "pil" and (resized or len(set(sizes)) > 1):
            raise ValueError(f"output_type: {output_type!r} can't hold images of these sizes; leave it at 'pil'")
        if side is not None and resized:
            logger.info("images: resized to %d x %d, the only size that the model takes, and back", side, side)
            inputs = [picture.resize((side, side), Image.Resampling.LANCZOS) for picture in inputs]
        tensors = [to_float(from_pil([picture], len(picture.getbands())))[0].to(self.device) for picture in inputs]
        made = reconstruct_any_size(self.codec, tensors, self._noise(generator))
        if output_type != "pil":
            return made
        drawn = [to_pil(to_uint8(image[None]))[0] for image in made]
        if not resized:
            return drawn
        return [picture.resize(size, Image.Resampling.LANCZOS) for picture, size in zip(drawn, sizes, strict=True)]

    def _encode(self, images: Any) -> Encoded:
        pictures = as_pictures(images)
        if pictures is not None:
            if len({picture.size for picture in pictures}) != 1:
                raise ValueError(f"images: {len(pictures)} of no size or of several; give some of one size")
            flat = [_flat(picture, self.codec.traits.channels)[0] for picture in pictures]
            images = to_float(from_pil(flat, len(flat[0].getbands())))
        elif not isinstance(images, Tensor):
            images = VaeImageProcessor(do_resize=False).preprocess(images)
        return self.codec.encode(images.to(self.device))


def _flat(picture: Image.Image, channels: int) -> tuple[Image.Image, tuple[str, ...]]:
    """As the network takes it: mode L, RGB, or RGBA where both have an alpha channel; and what that changed."""
    if channels == 4 and picture.has_transparency_data:
        return picture.convert("RGBA"), ()
    try:
        return flatten(picture, channels)
    except DamagedImage as error:
        raise ValueError(f"images: {error}") from None


def _say_changes(changes: Any) -> None:
    for change, count in Counter(changes).items():
        logger.info("images: %d %s", count, change)


def codec_of(pipeline: Any) -> Autoencoder | None:
    """The autoencoder in a pipeline of any family; None where it has none."""
    if hasattr(pipeline, "codec"):
        return pipeline.codec
    network = pipeline.autoencoding_network
    return None if network is None else Autoencoder(network)


def seams_of(pipeline: Any, images: Tensor) -> dict[str, Any] | None:
    """What tiles change in uint8 images (N, C, H, W); None where nothing is tiled: see `measure_seams`."""
    codec = codec_of(pipeline)
    if codec is None or codec.tile is None:
        return None
    return measure_seams(codec, pad_to_factor(to_float(images), codec.factor).to(pipeline.device))
