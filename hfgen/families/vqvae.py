"""VQ-VAE (van den Oord et al., 1711.00937): a stock `VQModel`, and a stock causal LM over its codes."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad

from hfgen.errors import UserError
from hfgen.models.decoder import decoder_arguments
from hfgen.models.initialise import initialise
from hfgen.objectives.codebook import CodebookAverage, codebook_warning, perplexity, quantise
from hfgen.pipelines import VQVAEPipeline
from hfgen.training.phases import Loss, Networks, Phase, Step


@dataclasses.dataclass(frozen=True)
class VQVAE:
    """Settings of a VQ-VAE and its prior.

    Args:
        latent_size: Side of the grid of codes.
        codes: Size of the codebook.
        code_channels: Dimension of a code.
        width: Channels of the blocks at full resolution.
        max_width: Most channels of any block.
        commitment: Weight of the commitment term.
        codebook_decay: Of the moving averages that the codebook follows, per step.
        lr: Peak learning rate of the autoencoder.
        prior_begin: Share of the run after which the autoencoder rests and the prior learns its codes.
        prior_width: Hidden size of the prior.
        prior_layers: Layers of the prior.
        prior_heads: Attention heads of the prior.
        prior_lr: Peak learning rate of the prior.
    """

    latent_size: int = 4
    codes: int = 256
    code_channels: int = 16
    width: int = 16
    max_width: int = 64
    commitment: float = 0.25
    codebook_decay: float = 0.99
    lr: float = 1e-3
    prior_begin: float = 0.5
    prior_width: int = 128
    prior_layers: int = 4
    prior_heads: int = 4
    prior_lr: float = 2e-3

    def __post_init__(self) -> None:
        """Refuse what no network can be built from."""
        if self.codes < 2:
            raise UserError(f"model.codes: {self.codes} is too small; a codebook has at least 2 codes")
        if not 0 < self.prior_begin < 1:
            raise UserError(f"model.prior_begin: {self.prior_begin} isn't between 0 and 1; choose a share of the run")
        if self.prior_width % self.prior_heads:
            raise UserError(
                f"model.prior_heads: {self.prior_heads} doesn't divide prior_width {self.prior_width}; choose a divisor"
            )

    def build(self, resolution: int, channels: int, classes: int = 0) -> dict[str, nn.Module]:
        """Three networks: `vqvae`, its `codebook` averages, and `prior`."""
        from diffusers import VQModel
        from transformers import GPT2Config, GPT2LMHeadModel

        arguments = decoder_arguments(
            resolution, channels, self.code_channels, self.latent_size, self.width, self.max_width
        )
        vqvae = VQModel(**arguments, num_vq_embeddings=self.codes, scaling_factor=1.0)
        initialise(vqvae)
        # Moving averages write the codebook; no gradient does.
        vqvae.quantize.embedding.weight.requires_grad_(False)
        config = GPT2Config(
            vocab_size=self.codes + 1,
            n_positions=self.latent_size**2,
            n_embd=self.prior_width,
            n_layer=self.prior_layers,
            n_head=self.prior_heads,
            bos_token_id=self.codes,
            eos_token_id=self.codes,
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
        latents = vqvae.encode(images).latents
        quantised = quantise(latents, vqvae.quantize.embedding.weight)
        decoded = vqvae.decode(quantised.latents, force_not_quantize=True).sample.float()
        mse = (decoded - images).square().mean()
        step.carry["latents"] = latents.detach().float().permute(0, 2, 3, 1).reshape(-1, self.code_channels)
        step.carry["codes"] = step.gather(quantised.codes.reshape(-1))
        terms = {
            "mse": mse.detach(),
            "commitment": quantised.commitment.detach(),
            "perplexity": perplexity(step.carry["codes"], self.codes),
        }
        return decoded, mse, Loss(mse + self.commitment * quantised.commitment, terms)

    def _move_codebook(self, networks: Networks, step: Step) -> None:
        latents, codes = step.gather(step.carry["latents"]), step.carry["codes"]
        picks = step.draws.integers(len(latents), self.codes)
        weight = networks["vqvae"].quantize.embedding.weight
        networks["codebook"].update(weight, latents, codes, picks, self.codebook_decay)

    def _prior_loss(self, networks: Networks, step: Step) -> Loss:
        vqvae = step.averages["vqvae"]
        with torch.no_grad():
            codes = quantise(vqvae.encode(step.images).latents, vqvae.quantize.embedding.weight).codes.flatten(1)
        # Shifted right behind the start token: position i predicts code i from the codes before it.
        logits = networks["prior"](input_ids=pad(codes[:, :-1], (1, 0), value=self.codes)).logits
        nll = cross_entropy(logits.float().flatten(0, 1), codes.flatten())
        return Loss(nll, {"nll": nll.detach()})

    def pipeline(self, networks: Networks) -> VQVAEPipeline:
        """Decode codes drawn from the prior, or reconstruct."""
        return VQVAEPipeline(vqvae=networks["vqvae"], prior=networks["prior"])
