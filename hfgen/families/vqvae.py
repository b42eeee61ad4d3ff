"""VQ-VAE (van den Oord et al., 1711.00937): a stock `VQModel`, and a stock causal LM over its codes."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from hfgen.errors import UserError
from hfgen.models.decoder import decoder_arguments
from hfgen.models.initialise import initialise
from hfgen.objectives.codebook import CodebookAverage, codebook_warning, perplexity, product_grid, quantise
from hfgen.pipelines import VQVAEPipeline
from hfgen.setting_bounds import at_least, below_one, positive
from hfgen.training.phases import Family, Loss, Networks, Phase, Step


@dataclasses.dataclass(frozen=True)
class VQVAE(Family):
    """Settings of a VQ-VAE and its prior.

    Args:
        latent_size: Side of the grid of codes.
        codes: Size of the codebook.
        code_channels: Dimension of a code.
        code_distance: By which a latent's code is the nearest; cosine learns codes of unit length (2110.04627).
        levels: Of each coordinate in a fixed grid of codes (FSQ, 2309.15505); empty: the codebook is learnt.
        width: Channels of the blocks at full resolution.
        max_width: Most channels of any block.
        commitment: Weight of the commitment term.
        codebook_decay: Of the moving averages that the codebook follows, per step.
        lr: Peak learning rate of the autoencoder.
        conditional: Whether the prior learns the images' classes.
        class_dropout: Share of the images whose class the prior doesn't see, so that guidance has both.
        prior_begin: Share of the run after which the autoencoder stops and the prior learns its codes.
        prior_width: Hidden size of the prior.
        prior_layers: Layers of the prior.
        prior_heads: Attention heads of the prior.
        prior_init: Standard deviation of the prior's first weights; .02 is GPT-2's, for a width of 768.
        prior_lr: Peak learning rate of the prior.
    """

    latent_size: int = 4
    codes: int = 256
    code_channels: int = 16
    code_distance: Literal["euclidean", "cosine"] = "euclidean"
    levels: tuple[int, ...] = ()
    width: int = 16
    max_width: int = 64
    commitment: float = 0.25
    codebook_decay: float = 0.99
    lr: float = 1e-3
    conditional: bool = False
    class_dropout: float = 0.1
    prior_begin: float = 0.5
    prior_width: int = 128
    prior_layers: int = 4
    prior_heads: int = 4
    prior_init: float = 0.02
    prior_lr: float = 2e-3

    def __post_init__(self) -> None:
        """Refuse what no network can be built from."""
        if self.codes < 2:
            raise UserError(f"model.codes: {self.codes} is too small; a codebook has at least 2 codes")
        if self.levels:
            self._check_levels()
        if not 0 < self.class_dropout < 1:
            raise UserError(
                f"model.class_dropout: {self.class_dropout} isn't between 0 and 1; choose a share of the images"
            )
        if not 0 < self.prior_begin < 1:
            raise UserError(f"model.prior_begin: {self.prior_begin} isn't between 0 and 1; choose a share of the run")
        positive(self, "lr", "prior_lr")
        at_least(0, self, "commitment")
        at_least(1, self, "latent_size", "code_channels", "prior_width", "prior_layers", "prior_heads")
        below_one(self, "codebook_decay", "choose e.g. 0.99")
        if self.prior_width % self.prior_heads:
            raise UserError(
                f"model.prior_heads: {self.prior_heads} doesn't divide prior_width {self.prior_width}; choose a divisor"
            )
        if not 0 < self.prior_init < math.inf:
            raise UserError(f"model.prior_init: {self.prior_init} is no standard deviation; choose about 0.02 to 0.05")

    def _check_levels(self) -> None:
        if min(self.levels) < 2:
            raise UserError(f"model.levels: {min(self.levels)} is too small; a coordinate has at least 2 levels")
        codes, channels = math.prod(self.levels), len(self.levels)
        if (self.codes, self.code_channels) != (codes, channels):
            raise UserError(
                f"model.levels: {list(self.levels)} are {codes} codes of {channels} channels, not {self.codes} of "
                f"{self.code_channels}; set model.codes {codes} and model.code_channels {channels}"
            )
        if self.code_distance != "euclidean":
            raise UserError(
                f"model.code_distance: {self.code_distance} doesn't go with model.levels, whose codes are no "
                "directions; choose euclidean"
            )

    def build(self, resolution: int, channels: int, classes: int = 0) -> dict[str, nn.Module]:
        """Three networks: `vqvae`, its `codebook` averages, and `prior`.

        The prior's tokens are the codes, then the start of an image without a class, and that of each class.

        Raises:
            UserError: the prior is conditional, and the images have no labels.
        """
        from diffusers import VQModel
        from transformers import GPT2Config, GPT2LMHeadModel

        if self.conditional and not classes:
            raise UserError(
                "model.conditional: true needs a label for every image, and the data has none; "
                "choose labelled data, or model.conditional false"
            )
        arguments = decoder_arguments(
            resolution, channels, self.code_channels, self.latent_size, self.width, self.max_width
        )
        vqvae = VQModel(**arguments, num_vq_embeddings=self.codes, scaling_factor=1.0)
        initialise(vqvae)
        # Moving averages write the codebook, or nothing does; no gradient.
        codebook = vqvae.quantize.embedding.weight.requires_grad_(False)
        if self.levels:
            codebook.copy_(product_grid(self.levels))
        config = GPT2Config(
            vocab_size=self.codes + 1 + (classes if self.conditional else 0),
            n_positions=self.latent_size**2,
            n_embd=self.prior_width,
            n_layer=self.prior_layers,
            n_head=self.prior_heads,
            bos_token_id=self.codes,
            eos_token_id=self.codes,
            initializer_range=self.prior_init,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
        )
        return {
            "vqvae": vqvae,
            "codebook": CodebookAverage(self.codes, self.code_channels),
            "prior": GPT2LMHeadModel(config),
        }

    def phases(self) -> list[Phase]:
        """The autoencoder first; then the prior, on the codes of the averaged autoencoder."""
        return [
            Phase(
                "vqvae",
                ("vqvae",),
                self._loss,
                self.lr,
                end=self.prior_begin,
                after=self._move_codebook,
                clip=1.0,
                watch=lambda means: codebook_warning(means["perplexity"], self.codes),
            ),
            Phase("prior", ("prior",), self._prior_loss, self.prior_lr, begin=self.prior_begin, clip=1.0),
        ]

    def _loss(self, networks: Networks, step: Step) -> Loss:
        return self._reconstruction(networks, step)[2]

    def _reconstruction(self, networks: Networks, step: Step) -> tuple[Tensor, Tensor, Loss]:
        """The reconstructions (n, C, R, R), their mean squared error, and the loss that it is a part of."""
        vqvae, images = networks["vqvae"], step.images
        latents = vqvae.encode(images).latents.float()
        if self.code_distance == "cosine":
            # Among codes of unit length, `VQModel` finds the same one for any length of the latent.
            latents = normalize(latents, dim=1)
        quantised = quantise(latents, vqvae.quantize.embedding.weight)
        decoded = vqvae.decode(quantised.latents, force_not_quantize=True).sample.float()
        mse = (decoded - images).square().mean()
        step.carry["latents"] = latents.detach().permute(0, 2, 3, 1).reshape(-1, self.code_channels)
        step.carry["codes"] = step.gather(quantised.codes.reshape(-1))
        terms = {
            "mse": mse.detach(),
            "commitment": quantised.commitment.detach(),
            "perplexity": perplexity(step.carry["codes"], self.codes),
            "usage": networks["codebook"].usage(1 / (1 - self.codebook_decay)),
        }
        return decoded, mse, Loss(mse + self.commitment * quantised.commitment, terms)

    def _move_codebook(self, networks: Networks, step: Step) -> None:
        average, codes = networks["codebook"], step.carry["codes"]
        average.see(codes)
        if self.levels:
            return
        latents = step.gather(step.carry["latents"])
        picks = step.draws.integers(len(latents), self.codes)
        weight = networks["vqvae"].quantize.embedding.weight
        average.update(weight, latents, codes, picks, self.codebook_decay)
        if self.code_distance == "cosine":
            weight.copy_(normalize(weight, dim=1))
        # It is an average already: one more would lag behind the encoder's, and leave unit length.
        step.averages["vqvae"].quantize.embedding.weight.copy_(weight)

    def _prior_loss(self, networks: Networks, step: Step) -> Loss:
        vqvae = step.averages["vqvae"]
        with torch.no_grad():
            codes = quantise(vqvae.encode(step.images).latents, vqvae.quantize.embedding.weight).codes.flatten(1)
        # Shifted right behind the start token: position i predicts code i from the codes before it.
        tokens = torch.cat([self._starts(step)[:, None], codes[:, :-1]], 1)
        logits = networks["prior"](input_ids=tokens).logits
        nll = cross_entropy(logits.float().flatten(0, 1), codes.flatten())
        return Loss(nll, {"nll": nll.detach()})

    def _starts(self, step: Step) -> Tensor:
        """Start tokens (n,): the image's class or, for some of them and without a condition, none."""
        none = torch.full((len(step.images),), self.codes, device=step.images.device)
        if step.labels is None or not self.conditional:
            return none
        dropped = step.draws.uniform((len(none),)) < self.class_dropout
        return torch.where(dropped, none, self.codes + 1 + step.labels)

    def pipeline(self, networks: Networks) -> VQVAEPipeline:
        """Decode codes drawn from the prior, or reconstruct."""
        return VQVAEPipeline(vqvae=networks["vqvae"], prior=networks["prior"])
