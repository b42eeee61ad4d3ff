"""The peers: pythae's own trainer on hfgen's networks and on its own, where it is installed, and two more loops."""

from __future__ import annotations

import importlib
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from benchmarks.budget import Given, Made, in_batches, spend
from benchmarks.dcgan import dcgan
from benchmarks.diffusers_recipe import diffusers_recipe
from hfgen.data import batch_indices
from hfgen.errors import UserError
from hfgen.pipelines.finite import check_images

# Of the time, for pythae's mixture; and the images that it is fitted to.
_PRIOR, _FITTED_ON = 0.05, 10_000


class PythaeTrainer:
    """pythae 0.1.2: its model, loss, optimizer, loader and `train_step`. It knows no bf16 on a CPU: this is fp32."""

    def __init__(self, model: Any, images: Tensor, batch: int, folder: Path, **settings: Any) -> None:
        from pythae.trainers import BaseTrainer, BaseTrainerConfig

        for name in list(logging.Logger.manager.loggerDict):
            if name.startswith("pythae"):
                logging.getLogger(name).setLevel(logging.ERROR)
        self.data, self.batch = _Images(images), batch
        training = BaseTrainerConfig(
            output_dir=str(folder),
            per_device_train_batch_size=batch,
            num_epochs=1,
            train_dataloader_num_workers=0,
            **settings,
        )
        self.trainer = BaseTrainer(model, self.data, training_config=training)
        self.trainer.prepare_training()

    def steps(self, count: int) -> None:
        """`count` batches, as one of its epochs."""
        self.data.turn(count * self.batch)
        self.trainer.train_loader = self.trainer.get_train_dataloader(self.data)
        self.trainer.train_step(epoch=1)


def pythae_loop(config: Any, images: Tensor, folder: Path) -> PythaeTrainer:
    """Pythae around the encoder and decoder of a recipe."""
    from pythae.models.nn import BaseDecoder, BaseEncoder

    torch.manual_seed(0)
    network = config.model.build(config.resolution, images.shape[1])[config.family]
    model = _MODELS[config.family](config, network, tuple(images.shape[1:]), BaseEncoder, BaseDecoder)
    return PythaeTrainer(model, images, config.batch_size, folder, optimizer_cls="AdamW")


class _Images(torch.utils.data.Dataset[Any]):
    """Items as pythae's own dataset gives them: the next so many of permutations of all images."""

    def __init__(self, images: Tensor) -> None:
        self.images, self.rows, self._seen = images, torch.arange(len(images)), 0

    def turn(self, count: int) -> None:
        """Go to the next `count` images."""
        self.rows = batch_indices(len(self.images), self._seen, count, seed=0)
        self._seen += count

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Any:
        from pythae.data.datasets import DatasetOutput

        return DatasetOutput(data=self.images[self.rows[index]], labels=0)


def _vae(config: Any, network: Any, shape: tuple[int, ...], encoder: Any, decoder: Any) -> Any:
    from pythae.models import VAE, VAEConfig
    from pythae.models.base.base_utils import ModelOutput

    channels, side = config.model.latent_channels, config.model.latent_size

    class Encoder(encoder):
        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.quant_conv, self.latent_dim = network.encoder, network.quant_conv, channels * side**2

        def forward(self, x: Tensor) -> Any:
            mean, logvar = self.quant_conv(self.encoder(x)).flatten(1).chunk(2, 1)
            return ModelOutput(embedding=mean, log_covariance=logvar)

    class Decoder(decoder):
        def __init__(self) -> None:
            super().__init__()
            self.decoder, self.post_quant_conv = network.decoder, network.post_quant_conv

        def forward(self, z: Tensor) -> Any:
            return ModelOutput(reconstruction=self.decoder(self.post_quant_conv(z.reshape(-1, channels, side, side))))

    return VAE(VAEConfig(input_dim=shape, latent_dim=channels * side**2), Encoder(), Decoder())


def _vqvae(config: Any, network: Any, shape: tuple[int, ...], encoder: Any, decoder: Any) -> Any:
    from pythae.models import VQVAE, VQVAEConfig
    from pythae.models.base.base_utils import ModelOutput

    class Encoder(encoder):
        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.quant_conv = network.encoder, network.quant_conv
            self.latent_dim = config.model.code_channels

        def forward(self, x: Tensor) -> Any:
            return ModelOutput(embedding=self.quant_conv(self.encoder(x)))

    class Decoder(decoder):
        def __init__(self) -> None:
            super().__init__()
            self.decoder, self.post_quant_conv = network.decoder, network.post_quant_conv

        def forward(self, z: Tensor) -> Any:
            return ModelOutput(reconstruction=self.decoder(self.post_quant_conv(z)))

    model = config.model
    settings = VQVAEConfig(
        input_dim=shape, latent_dim=model.code_channels, num_embeddings=model.codes, use_ema=True, decay=0.99
    )
    return VQVAE(settings, Encoder(), Decoder())


_MODELS = {"vae": _vae, "vqvae": _vqvae}
PYTHAE_FAMILIES = tuple(_MODELS)


class _Format(NamedTuple):
    """How images enter pythae's networks of one of its benchmarks, and come back.

    Its residual networks, each for images of one shape: the convolutional ones for 32 and 64 px compute billions of
    products an image, so that a core trains on a few a second.

    Attributes:
        module: Of `pythae.models.nn.benchmarks`.
        shape: (C, S, S) of its images.
        border: Pixels on each side that are left out, and black again in what comes back.
        repeated: Whether grey is given as three equal channels, and their mean taken of what comes back.
        note: What of this is to be said.
    """

    module: str
    shape: tuple[int, int, int]
    border: int = 0
    repeated: bool = False
    note: str = ""

    def units(self, images: Tensor) -> Tensor:
        """uint8 (N, C, R, R) -> (N, *shape) in [0, 1]."""
        end = images.shape[-1] - self.border
        inside = images[:, :, self.border : end, self.border : end].float() / 255
        return inside.repeat(1, 3, 1, 1) if self.repeated else inside

    def pixels(self, units: Tensor) -> Tensor:
        """`units` undone; see `check_images`."""
        check_images(units)
        grey = units.mean(1, keepdim=True) if self.repeated else units
        return pad((grey.clamp(0, 1) * 255).round().byte(), (self.border,) * 4)

    def network(self, kind: str) -> Any:
        """The class of that name, less its data's."""
        name = f"pythae.models.nn.benchmarks.{self.module}"
        return getattr(importlib.import_module(name), f"{kind}_{self.module.upper()}")


def _format(images: Tensor) -> _Format:
    """For images of 32 px, of 28 in a black border, or of 64 px in colour.

    Raises:
        UserError: others.
    """
    _, channels, side, _ = images.shape
    if side == 32 and channels == 1:
        border = images.clone()
        border[:, :, 2:-2, 2:-2] = 0
        if not border.any():
            return _Format("mnist", (1, 28, 28), border=2, note="28 px inside the black border")
        return _Format("cifar", (3, 32, 32), repeated=True, note="grey as 3 equal channels, their mean taken")
    if channels == 3 and side in (32, 64):
        return _Format("cifar" if side == 32 else "celeba", (3, side, side))
    raise UserError(
        f"resolution: pythae has no networks for {channels} channels of {side} px; choose 32, or 64 in colour"
    )


def _train_pythae(model: Any, units: Tensor, seconds: float, folder: Path) -> tuple[int, float]:
    trainer = PythaeTrainer(model, units, 64, folder, learning_rate=1e-3)

    def steps(_: float) -> int:
        trainer.steps(20)
        return 20 * trainer.batch

    result = spend(seconds, steps)
    model.eval()
    return result


def _pythae_vae(given: Given) -> Made:
    """Pythae's VAE with its own networks and its sampler of a mixture of ten Gaussians, as hfgen's VAE has."""
    from pythae.models import VAE, VAEConfig
    from pythae.samplers import GaussianMixtureSampler

    torch.manual_seed(given.seed)
    form = _format(given.train)
    config = VAEConfig(input_dim=form.shape, latent_dim=given.numbers)
    model = VAE(config, form.network("Encoder_ResNet_VAE")(config), form.network("Decoder_ResNet_AE")(config))
    images, took = _train_pythae(model, form.units(given.train), (1 - _PRIOR) * given.seconds, given.folder)
    sampler, started = GaussianMixtureSampler(model), time.process_time()
    rows = batch_indices(len(given.train), 0, min(_FITTED_ON, len(given.train)), seed=0)
    sampler.fit(form.units(given.train[rows]))
    took += time.process_time() - started
    again = in_batches(lambda x: model.decoder(model.encoder(x).embedding).reconstruction, form.units(given.originals))
    with torch.no_grad():
        samples = sampler.sample(given.n)
    return Made(images, took, form.pixels(samples), form.pixels(again), form.note)


def _pythae_vqvae(given: Given) -> Made:
    """Pythae's VQ-VAE with its own networks and its PixelCNN; each has half of the time."""
    from pythae.models import VQVAE, VQVAEConfig
    from pythae.samplers import PixelCNNSampler
    from pythae.trainers import BaseTrainerConfig

    torch.manual_seed(given.seed)
    form, half = _format(given.train), given.seconds / 2
    config = VQVAEConfig(input_dim=form.shape, latent_dim=16, num_embeddings=512)
    model = VQVAE(config, form.network("Encoder_ResNet_VQVAE")(config), form.network("Decoder_ResNet_VQVAE")(config))
    # The PixelCNN may see fewer than all: those are of all classes.
    units = form.units(given.train[batch_indices(len(given.train), 0, len(given.train), seed=0)])
    images, took = _train_pythae(model, units, half, given.folder)
    sampler, started = PixelCNNSampler(model), time.process_time()

    def fit(count: int) -> float:
        begun = time.process_time()
        settings = BaseTrainerConfig(
            output_dir=str(given.folder), num_epochs=1, learning_rate=1e-3, per_device_train_batch_size=64
        )
        sampler.fit(units[:count], training_config=settings)
        return count / (time.process_time() - begun)

    # It trains by epochs, so that a short one tells how many images fill the time.
    rate = fit(640)
    while (left := half - (time.process_time() - started)) > 0.1 * given.seconds:
        fit(min(len(units), max(640, int(rate * left))))
    took += time.process_time() - started
    again = in_batches(lambda x: model({"data": x}).recon_x, form.units(given.originals))
    with torch.no_grad():
        samples = sampler.sample(given.n)
    return Made(images, took, form.pixels(samples), form.pixels(again), form.note)


PEERS: dict[str, Callable[[Given], Made]] = {
    "pythae_vae": _pythae_vae,
    "pythae_vqvae": _pythae_vqvae,
    "diffusers": diffusers_recipe,
    "dcgan": dcgan,
}
