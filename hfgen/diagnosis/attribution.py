"""How much of the missing high-frequency power goes to which cause: the powers of the chain, subtracted in order.

Powers are means above .25 cycles per pixel, over that of the real images. Of an autoencoder:

    1 -> as many numbers carry -> the network learns -> refit decoder -> posterior mean -> prior
      bottleneck         network     noise or codes, encoder    decoder            prior

What a latent's numbers could carry is at least what as many principal components do (of codes: what their bits would
carry of a Gaussian source), and at least what the network reaches without noise, KL and codes. The bottleneck is what
is beyond both: at most so much. Of a network that is below that bound in squared error it is called unexplained, since
nothing says that its latent is full. All other shares are signed: what a step makes worse is negative.
The causes sum to 1 - the last power by construction. That the missing power *is* averaging isn't one of them: an L2
decoder answers each lack of information with it, whatever the cause; gain and coherence by band say whether it does.
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


def attribute(
    powers: Powers, kept: float, *, seed: int, bounded: bool = True, intervened: bool = True
) -> dict[str, Estimate]:
    """Each cause's share of the high-frequency power, with its 95 % interval by resampling images; signed.

    Args:
        powers: Of the stages that were made. Without any intervention on a latent it is a generator, whose
            `prior_sample` or `mean` is all there is.
        kept: Power of the real images over that of images as sharp as their pixels allow; 1 where DATA isn't blurred.
        seed: Of the resampling.
        bounded: Whether the network reaches the bound of its latent's size in squared error.
        intervened: Whether what isn't there was looked for; of an autoencoder that wasn't, all is unexplained.

    Returns:
        `data`, `bottleneck`, `network`, `encoder`, `noise` or `codes`, `decoder`, `generator`, `prior`, `unexplained`,
        each where it applies; of the power that sharp images would have. They sum to `missing`.

    Raises:
        UserError: no real power, or stages of different lengths.
    """
    return bootstrap(*_split(powers, kept, bounded, intervened), seed=seed)


def leads(powers: Powers, kept: float, *, seed: int, bounded: bool = True, intervened: bool = True) -> dict[str, float]:
    """In which share of the resamples each cause is the largest of those that have a name; arguments of `attribute`."""
    statistic, paired, drawn = _split(powers, kept, bounded, intervened)
    _, rows, _ = _resampled(statistic, paired, drawn, seed)
    named = [name for name in rows[0] if name not in ("missing", "unexplained")]
    first = [max(named, key=lambda name: row[name]) for row in rows]
    return {name: first.count(name) / len(rows) for name in named}


def _split(
    powers: Powers, kept: float, bounded: bool, intervened: bool
) -> tuple[Callable[[Mapping[str, float]], dict[str, float]], Powers, Powers]:
    """The statistic, and the stages that are resampled together and each by itself."""
    if float(powers["real"].mean()) <= 0:
        raise UserError("data: the images have no power above .25 cycles/pixel; use images that aren't flat")
    paired = {name: values for name, values in powers.items() if name in PAIRED}
    if len({len(values) for values in paired.values()}) > 1:
        raise UserError("powers: paired stages of different lengths; give one value per real image in each")

    def causes(means: Mapping[str, float]) -> dict[str, float]:
        relative = {name: mean / means["real"] for name, mean in means.items()}
        return _causes(relative, kept, bounded, intervened)

    return causes, paired, {name: v for name, v in powers.items() if name not in PAIRED}


def bootstrap(
    statistic: Callable[[Mapping[str, float]], dict[str, float]], paired: Powers, drawn: Powers, *, seed: int
) -> dict[str, Estimate]:
    """A function of means, by 1000 resamples of the images: those of `paired` together, each of `drawn` by itself."""
    value, rows, n = _resampled(statistic, paired, drawn, seed)
    return {name: _estimate(number, [row[name] for row in rows], n) for name, number in value.items()}


def _resampled(
    statistic: Callable[[Mapping[str, float]], dict[str, float]], paired: Powers, drawn: Powers, seed: int
) -> tuple[dict[str, float], list[dict[str, float]], int]:
    """The statistic, that of each resample, and the images of the smallest stage."""
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
    return value, rows, n


def _estimate(value: float, resampled: list[float], n: int) -> Estimate:
    quantiles = torch.tensor([0.025, 0.975], dtype=torch.float64)
    low, high = torch.tensor(resampled, dtype=torch.float64).quantile(quantiles).tolist()
    # Maxima of noisy numbers are biased upwards, so that the value may lie at the interval's edge.
    return Estimate(value, min(low, value), max(high, value), n)


def _causes(power: Mapping[str, float], kept: float, bounded: bool, intervened: bool) -> dict[str, float]:
    last = power.get("prior_sample", power.get("mean", 1.0))
    if power.keys() & set(_REACHED):
        found = _of_autoencoder(power, bounded)
    else:
        found = {"generator": 1 - last} if intervened else _as_it_is(power, last)
    scaled = {name: kept * share for name, share in found.items()}
    return {"data": 1 - kept, **scaled, "missing": 1 - kept * last}


def _as_it_is(power: Mapping[str, float], last: float) -> dict[str, float]:
    """Of an autoencoder on which nothing was tried: what its prior loses is known all the same."""
    mean = power.get("mean", last)
    return {"unexplained": 1 - mean, **({"prior": mean - last} if "prior_sample" in power else {})}


def _of_autoencoder(power: Mapping[str, float], bounded: bool) -> dict[str, float]:
    mean = power["mean"]
    decoder = power.get("decoder", mean)
    # The most that some intervention reaches; more than the real power is made up, not carried.
    learnt = max(decoder, min(1.0, max(power.get("free", 0.0), power.get("best", 0.0))))
    carried = max(learnt, min(1.0, power.get("linear", 0.0)))
    found = {"network": carried - learnt, **_between(power, learnt - decoder), "decoder": decoder - mean}
    found = {"bottleneck": 1 - carried, **found} if bounded else {**found, "unexplained": 1 - carried}
    if "prior_sample" in power:
        # Reconstructions and draws differ in how their latents are distributed, and in nothing else.
        found["prior"] = mean - power["prior_sample"]
    return found


def _between(power: Mapping[str, float], kept_back: float) -> dict[str, float]:
    """What the latent could carry and doesn't, divided between the encoder and what comes after it."""
    if "unquantised" in power:
        return {"codes": kept_back}
    if "inferred" not in power:
        return {"encoder": kept_back}
    encoder = min(power["inferred"] - power["mean"], kept_back)
    return {"encoder": encoder, "noise": kept_back - encoder}
