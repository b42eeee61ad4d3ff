"""pythae's own trainer on hfgen's networks, where pythae is installed."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


class PythaeLoop:
    """pythae 0.1.2: its model, loss, optimizer, loader and `train_step`, around the encoder and decoder of a recipe.

    It knows no bf16 on a CPU, so this is fp32.
    """

    def __init__(self, config: Any, images: Tensor, folder: Path) -> None:
        from pythae.models.nn import BaseDecoder, BaseEncoder
        from pythae.trainers import BaseTrainer, BaseTrainerConfig

        logging.getLogger("pythae").setLevel(logging.ERROR)
        torch.manual_seed(0)
        network = config.model.build(config.resolution, images.shape[1])[config.family]
        self.data = _Images(images)
        model = _MODELS[config.family](config, network, tuple(images.shape[1:]), BaseEncoder, BaseDecoder)
        settings = BaseTrainerConfig(
            output_dir=str(folder),
            per_device_train_batch_size=config.batch_size,
            num_epochs=1,
            optimizer_cls="AdamW",
            train_dataloader_num_workers=0,
        )
        self.trainer = BaseTrainer(model, self.data, training_config=settings)
        self.trainer.prepare_training()
        self.batch = config.batch_size

    def steps(self, count: int) -> None:
        """`count` batches, as one of its epochs."""
        self.data.visible = count * self.batch
        self.trainer.train_loader = self.trainer.get_train_dataloader(self.data)
        self.trainer.train_step(epoch=1)


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
