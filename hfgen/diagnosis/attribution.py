"""How much of the missing high-frequency power goes to which cause: the powers of the chain, subtracted in order.

Powers are means above .25 cycles per pixel, over that of the real images. Of an autoencoder:

    1 -> as many numbers carry -> the network learns -> refit decoder -> posterior mean -> fitted density -> prior
      bottleneck         network     noise or codes, encoder    decoder        left over              prior

What a latent's numbers could carry is at least what as many principal components do: a network that lacks that power
isn't held back by its latent's size. What the network learns is what it reaches without noise, KL and codes.
The causes sum to 1 - the last power by construction. That the missing power *is* averaging isn't one of them: an L2
decoder answers each lack of information with it, whatever the cause; the averaging identity says how far it does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from hfgen.errors import UserError
from hfgen.metrics import Estimate

Powers = Mapping[str, Tensor]
"""Power of each image in the high band, (N,), by stage; `real` is one of them."""

_REACHED = ("linear", "free", "best", "inferred", "unquantised", "decoder", "adversarial")
PAIRED = ("real", *_REACHED, "mean", "posterior_sample")
"""Stages whose images are those of `real`, in its order; the others are draws."""

_RESAMPLES = 1000


def attribute(powers: Powers, kept: float, *, seed: int) -> dict[str, Estimate]:
    """Each cause's share of the high-frequency power, with its 95 % interval by resampling images; signed.

    Args:
        powers: Of the stages that were made. Without any intervention on a latent it is a generator, whose
            `prior_sample` or `mean` is all there is.
        kept: Power of the real images over that of images as sharp as their pixels allow; 1 where DATA isn't blurred.
        seed: Of the resampling.

    Returns:
        `data`, `bottleneck`, `network`, `encoder`, `noise` or `codes`, `decoder`, `generator`, `prior`, `left_over`,
        each where it applies; of the power that sharp images would have. They sum to `missing`.

    Raises:
        UserError: no real power, or stages of different lengths.
    """
    if float(powers["real"].mean()) <= 0:
        raise UserError("data: the images have no power above .25 cycles/pixel; use images that aren't flat")
    paired = {name: values for name, values in powers.items() if name in PAIRED}
    if len({len(values) for values in paired.values()}) > 1:
        raise UserError("powers: paired stages of different lengths; give one value per real image in each")

    def causes(means: Mapping[str, float]) -> dict[str, float]:
        return _causes({name: mean / means["real"] for name, mean in means.items()}, kept)

    return bootstrap(causes, paired, {name: v for name, v in powers.items() if name not in PAIRED}, seed=seed)


def bootstrap(
    statistic: Callable[[Mapping[str, float]], dict[str, float]], paired: Powers, drawn: Powers, *, seed: int
) -> dict[str, Estimate]:
    """A function of means, by 1000 resamples of the images: those of `paired` together, each of `drawn` by itself."""
    generator = torch.Generator().manual_seed(seed)
    resampled: dict[str, Tensor] = {}
    groups = [paired, *({name: values} for name, values in drawn.items())]
    for group in groups:
        if not group:
            continue
        names, stacked = list(group), torch.stack(list(group.values()), 1).double()
        picks = torch.randint(len(stacked), (_RESAMPLES, len(stacked)), generator=generator)
        means = torch.stack([stacked[rows].mean(0) for rows in picks])
        resampled |= dict(zip(names, means.T, strict=True))
    value = statistic({name: float(values.mean()) for group in groups for name, values in group.items()})
    rows = [statistic({name: float(means[i]) for name, means in resampled.items()}) for i in range(_RESAMPLES)]
    n = min(len(values) for group in groups for values in group.values())
    return {name: _estimate(number, [row[name] for row in rows], n) for name, number in value.items()}


def _estimate(value: float, resampled: list[float], n: int) -> Estimate:
    quantiles = torch.tensor([0.025, 0.975], dtype=torch.float64)
    low, high = torch.tensor(resampled, dtype=torch.float64).quantile(quantiles).tolist()
    # Maxima of noisy numbers are biased upwards, so that the value may lie at the interval's edge.
    return Estimate(value, min(low, value), max(high, value), n)


def _causes(power: Mapping[str, float], kept: float) -> dict[str, float]:
    last = power.get("prior_sample", power.get("mean", 1.0))
    found = _of_autoencoder(power) if power.keys() & set(_REACHED) else {"generator": 1 - last}
    scaled = {name: kept * share for name, share in found.items()}
    return {"data": 1 - kept, **scaled, "missing": 1 - kept * last}


def _of_autoencoder(power: Mapping[str, float]) -> dict[str, float]:
    mean = power["mean"]
    decoder = max(power.get("decoder", mean), mean)
    # More than the real power is made up, not carried.
    learnt = max(decoder, min(1.0, max(power.get("free", 0.0), power.get("best", 0.0))))
    carried = max(learnt, min(1.0, power.get("linear", 0.0)))
    found = {"bottleneck": 1 - carried, "network": carried - learnt, **_between(power, learnt - decoder)}
    found["decoder"] = decoder - mean
    if "fitted_density" in power:
        found["left_over"] = mean - power["fitted_density"]
    if "prior_sample" in power:
        found["prior"] = power.get("fitted_density", mean) - power["prior_sample"]
    return found


def _between(power: Mapping[str, float], kept_back: float) -> dict[str, float]:
    """What the latent could carry and doesn't, divided between the encoder and what comes after it."""
    if "unquantised" in power:
        return {"codes": kept_back}
    if "inferred" not in power:
        return {"encoder": kept_back}
    encoder = min(max(power["inferred"] - power["mean"], 0.0), kept_back)
    return {"encoder": encoder, "noise": kept_back - encoder}
