"""White noise that the network adds, where nothing is to be seen."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor
from torch.nn.functional import avg_pool2d

from hfgen import metrics
from hfgen.diagnosis.gates.context import Context, brightness
from hfgen.diagnosis.gates.findings import Finding, check

_FAULT, _WARNING = 4.0, 2.0
_NORMAL_MAD = 1.4826
_WHITE = 0.6
# Of the high-frequency power: a healthy network's own ripple is below.
_COUNTS, _MUCH = 0.05, 0.15


def noise(context: Context) -> Iterator[Finding]:
    """Noise's deviation by the median of the finest diagonal differences (Donoho & Johnstone 1994), beyond the real.

    Detail is sparse there and moves a median little. White noise is as strong one octave below; ripple is stronger.
    """
    if not context.reconstructs or context.broken("range"):
        return
    made, real = (brightness(part) * 127.5 for part in (context.outputs, context.inputs))
    fine, coarse = (
        _deviation(a).square() - _deviation(b).square() for a, b in ((made, real), (_half(made), _half(real)))
    )
    excess = metrics.bootstrap_mean(fine, seed=context.seed)
    value, low, high = (max(value, 0.0) ** 0.5 for value in (excess.value, excess.low, excess.high))
    measured = metrics.Estimate(value, low, high, excess.n)
    white = value > _WHITE * max(float(coarse.mean()), 0.0) ** 0.5
    power = _high_share(context, excess.value)
    yield check(
        "white_noise",
        measured,
        "deviation of the white noise that reconstructions have beyond the originals, in levels of 255",
        warning=_WARNING,
        fault=_FAULT if power > _MUCH else 255.0,
        text="Reconstructions are noisy: the network adds white noise where the image is smooth.",
        remedy="decode posterior means instead of samples; in training, raise --model.kl_weight less steeply, lower "
        "--model.adversarial_weight or raise --max_images",
        share=power,
        of="high-frequency power",
        telling=white and power > _COUNTS,
    )


def _half(values: Tensor) -> Tensor:
    """Twice the mean of 2 x 2 pixels: white noise keeps its deviation."""
    return 2 * avg_pool2d(values[:, None], 2)[:, 0]


def _deviation(values: Tensor) -> Tensor:
    """Of the noise in each image (N, H, W): (N,)."""
    height, width = (side // 2 * 2 for side in values.shape[1:])
    blocks = values[:, :height, :width].unfold(1, 2, 2).unfold(2, 2, 2)
    diagonal = ((blocks[..., 0, 0] - blocks[..., 0, 1] - blocks[..., 1, 0] + blocks[..., 1, 1]) / 2).flatten(1)
    # About the median: a checkerboard has all differences alike, and is no noise.
    centred = diagonal - diagonal.median(1, keepdim=True).values
    return _NORMAL_MAD * centred.abs().median(1).values


def _high_share(context: Context, variance: float) -> float:
    """What so much white noise adds above .25 cycles/pixel, over what the originals have there."""
    bins = context.real.shape[-1] * context.real.shape[-2]
    real = float(context.spectrum.high.mean())
    return min(max(variance, 0.0) / 255**2 / bins / max(real, 1e-12), 99.0)
