"""A floor for every autoencoder: what as many numbers, or bits, do without any network."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from hfgen.diagnosis.bounds import bound
from hfgen.diagnosis.gates.context import Context, removed, squared_error
from hfgen.diagnosis.gates.findings import Finding, check
from hfgen.errors import UserError
from hfgen.images import to_float

_FAULT, _WARNING = 0.15, 0.05
_INVENTED, _CALIBRATED, _GOOD = 0.5, 0.95, 0.7
# Of the variance between images.
_LITTLE = 0.01
# Two levels of 255, in [-1, 1]: of less, rounding decides.
_VISIBLE = 2 / 127.5


def floor(context: Context) -> Iterator[Finding]:
    """Principal components of training images, or a Gaussian's rate-distortion bound, against the reconstructions."""
    if context.network is None or context.training is None or context.broken():
        return  # After another fault it wouldn't say whether the network was trained enough.
    try:
        reached = bound(context.network, context.training(), context.real, context.seed)
    except UserError:
        return  # Too few training images for so many numbers: nothing is known.
    band = context.high
    crisp = band is not None and band.power.low > _GOOD
    # Detail that is made up may double the least squared error and be right (Blau & Michaeli 2018).
    allowed = _INVENTED if crisp and band is not None and band.gain.high < _CALIBRATED else 0.0
    good = crisp and band is not None and band.coherence.low > _GOOD
    # Smooth images have no detail to be judged by.
    good = good or float(context.errors.mean()) < _LITTLE * float((context.inputs - context.inputs.mean(0)).var())
    errors = squared_error(to_float(reached.images), context.inputs)
    share = removed(_own(context).clamp_min(1e-12), errors, context.seed)
    yield check(
        "under_trained",
        share,
        f"share of the squared error that {reached.what} don't have",
        warning=allowed + _WARNING,
        # Of what keeps nearly all detail, next to nothing is missing, whatever does better still.
        fault=1.0 if good else allowed + _FAULT,
        text=f"Reconstructions are worse than {reached.what}: the network doesn't use the latent that it has, and a "
        "larger latent wouldn't help.",
        remedy="train longer (--max_images), or with a grid of fewer channels (--model.latent_size)",
        share=share.value,
        of="squared error",
        telling=float(context.errors.mean()) ** 0.5 > _VISIBLE,
    )


def _own(context: Context) -> Tensor:
    """The squared errors (N,) of the reconstructions without white noise, which more training wouldn't take away."""
    found = context.earlier("white_noise")
    noise = 0.0 if found is None or found.severity != "warning" else (found.measured.value / 127.5) ** 2
    return context.errors - noise
