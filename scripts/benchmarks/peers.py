"""The peers: pythae's own trainer on hfgen's networks and on its own, where it is installed, and a plain DCGAN."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, pad


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
        self.data.visible = count * self.batch
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
    """Items as pythae's own dataset gives them, repeated to any length."""

    def __init__(self, images: Tensor) -> None:
        self.images, self.visible = images, len(images)

    def __len__(self) -> int:
        return self.visible

    def __getitem__(self, index: int) -> Any:
        from pythae.data.datasets import DatasetOutput

        return DatasetOutput(data=self.images[index % len(self.images)], labels=0)


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


@dataclass(frozen=True)
class Made:
    """What a peer made of so many training images in so many seconds: uint8 (n, 1, 32, 32)."""

    images: int
    seconds: float
    samples: Tensor
    reconstructions: Tensor | None


def _for(seconds: float, steps: Callable[[], int]) -> tuple[int, float]:
    """Repeat `steps`, which returns the images that it saw, for so long; the images in all, and the seconds."""
    images, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        images += steps()
    return images, time.perf_counter() - started


def _units(images: Tensor) -> Tensor:
    """uint8 (N, 1, 32, 32) -> the 28 x 28 pixels inside, in [0, 1], which pythae's networks for MNIST take."""
    return images[:, :, 2:-2, 2:-2].float() / 255


def _pixels(units: Tensor) -> Tensor:
    """`_units` undone; the border is black."""
    return pad((units.clamp(0, 1) * 255).round().byte(), (2, 2, 2, 2))


def _train_pythae(model: Any, train: Tensor, seconds: float, folder: Path) -> tuple[int, float]:
    trainer = PythaeTrainer(model, _units(train), 64, folder, learning_rate=1e-3)

    def steps() -> int:
        trainer.steps(20)
        return 20 * trainer.batch

    result = _for(seconds, steps)
    model.eval()
    return result


@torch.no_grad()
def _in_batches(call: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
    return torch.cat([call(batch) for batch in inputs.split(250)])


def _pythae_vae(train: Tensor, originals: Tensor, n: int, seconds: float, folder: Path) -> Made:
    """Pythae's VAE with its networks for MNIST and its default sampler."""
    from pythae.models import VAE, VAEConfig
    from pythae.models.nn.benchmarks.mnist import Decoder_Conv_AE_MNIST, Encoder_Conv_VAE_MNIST
    from pythae.samplers import NormalSampler

    torch.manual_seed(0)
    config = VAEConfig(input_dim=(1, 28, 28), latent_dim=16)
    model = VAE(config, Encoder_Conv_VAE_MNIST(config), Decoder_Conv_AE_MNIST(config))
    images, took = _train_pythae(model, train, seconds, folder)
    again = _in_batches(lambda x: model.decoder(model.encoder(x).embedding).reconstruction, _units(originals))
    return Made(images, took, _pixels(NormalSampler(model).sample(n)), _pixels(again))


def _pythae_vqvae(train: Tensor, originals: Tensor, n: int, seconds: float, folder: Path) -> Made:
    """Pythae's VQ-VAE with its networks for MNIST and its PixelCNN; each has half of the time."""
    from pythae.models import VQVAE, VQVAEConfig
    from pythae.models.nn.benchmarks.mnist import Decoder_ResNet_VQVAE_MNIST, Encoder_ResNet_VQVAE_MNIST
    from pythae.samplers import PixelCNNSampler
    from pythae.trainers import BaseTrainerConfig

    torch.manual_seed(0)
    config = VQVAEConfig(input_dim=(1, 28, 28), latent_dim=16, num_embeddings=512)
    model = VQVAE(config, Encoder_ResNet_VQVAE_MNIST(config), Decoder_ResNet_VQVAE_MNIST(config))
    images, took = _train_pythae(model, train, seconds / 2, folder)
    sampler = PixelCNNSampler(model)
    units, started = _units(train), time.perf_counter()

    def fit(count: int) -> float:
        begun = time.perf_counter()
        settings = BaseTrainerConfig(
            output_dir=str(folder), num_epochs=1, learning_rate=1e-3, per_device_train_batch_size=64
        )
        sampler.fit(units[:count], training_config=settings)
        return count / (time.perf_counter() - begun)

    # It trains by epochs, so that a short one tells how many images fill the time.
    rate = fit(640)
    while (left := seconds / 2 - (time.perf_counter() - started)) > 0.1 * seconds:
        fit(min(len(units), max(640, int(rate * left))))
    took += time.perf_counter() - started
    again = _in_batches(lambda x: model({"data": x}).recon_x, _units(originals))
    return Made(images, took, _pixels(sampler.sample(n)), _pixels(again))


def _dcgan(train: Tensor, originals: Tensor, n: int, seconds: float, folder: Path) -> Made:
    """DCGAN as published (Radford et al., 1511.06434), one size smaller: 32 px."""
    torch.manual_seed(0)
    widths = (256, 128, 64)
    generator = nn.Sequential(
        nn.ConvTranspose2d(100, widths[0], 4, bias=False),
        *_normed(widths[0], nn.ReLU()),
        *(
            layer
            for a, b in itertools.pairwise(widths)
            for layer in (nn.ConvTranspose2d(a, b, 4, 2, 1, bias=False), *_normed(b, nn.ReLU()))
        ),
        nn.ConvTranspose2d(widths[-1], 1, 4, 2, 1),
        nn.Tanh(),
    )
    discriminator = nn.Sequential(
        nn.Conv2d(1, widths[-1], 4, 2, 1),
        nn.LeakyReLU(0.2),
        *(
            layer
            for a, b in zip(widths[::-1], widths[-2::-1], strict=False)
            for layer in (nn.Conv2d(a, b, 4, 2, 1, bias=False), *_normed(b, nn.LeakyReLU(0.2)))
        ),
        nn.Conv2d(widths[0], 1, 4),
        nn.Flatten(0),
    )
    for module in (*generator, *discriminator):
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0, 0.02)
    optimizers = [torch.optim.Adam(net.parameters(), 2e-4, (0.5, 0.999)) for net in (discriminator, generator)]

    def step() -> int:
        real = train[torch.randint(len(train), (64,))].float() / 127.5 - 1
        fake = generator(torch.randn(64, 100, 1, 1))
        for optimizer, pairs in (
            (optimizers[0], ((real, 1.0), (fake.detach(), 0.0))),
            (optimizers[1], ((fake, 1.0),)),
        ):
            optimizer.zero_grad()
            for images, target in pairs:
                scores = discriminator(images)
                binary_cross_entropy_with_logits(scores, torch.full_like(scores, target)).backward()
            optimizer.step()
        return len(real)

    images, took = _for(seconds, step)
    generator.eval()
    made = _in_batches(generator, torch.randn(n, 100, 1, 1))
    return Made(images, took, ((made + 1) * 127.5).round().clamp(0, 255).byte(), None)


def _normed(channels: int, activation: nn.Module) -> tuple[nn.Module, nn.Module]:
    return nn.BatchNorm2d(channels), activation


QUALITY: dict[str, Callable[[Tensor, Tensor, int, float, Path], Made]] = {
    "pythae_vae": _pythae_vae,
    "pythae_vqvae": _pythae_vqvae,
    "dcgan": _dcgan,
}
"""(training images, held-out images, samples, seconds, folder for what it writes) -> what it made."""
