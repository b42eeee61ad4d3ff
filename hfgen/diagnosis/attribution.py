"""How much of the missing high-frequency power goes to which cause.

Powers are means above .25 cycles per pixel, over that of the real images. Of an autoencoder, what it lacks is

    1 - mean = bottleneck or unexplained + network + (noise or codes + encoder + decoder), and then the prior

The sum in brackets is what a refit reaches in which all is free and learns, less what the model has. It is divided over
a factorial of refits with equally many steps: {noise or codes off} x {encoder learns} x {decoder learns}. The one in
which both learn and nothing is off goes on as before: what it gains is training's, divided between encoder and decoder
by Shapley values; what the free one gains beyond it is the noise's or the codes'. Together that is the weighted Shapley
value in which these are freed last: an encoder and a decoder that are at their best have no share in what their noise
takes. Where latents inferred image by image come further than both do by learning on, they stand for the encoder that
learns, alone and beside a decoder, which adds nothing that was seen: what the two bring together by learning on is then
no decoder's. All shares are signed: what a step makes worse is negative.

What the refits don't reach and as many principal components carry (of codes: their bits, of a Gaussian source) is the
network's. Beyond both, what optimised latents reach is `unexplained`, since no refit found it, and the rest is the
bottleneck: at most so much. Of a network that is below that bound in squared error all of it is unexplained, since
nothing says that its latent is full. What samples gain where the prior, or a GAN's generator, learns on is its
training's, and the rest its own. Where E[x | z] is known exactly, it takes the bound's place: what it has beyond
all that learns is in the latent and `unread`, whatever the network does. The causes sum to 1 - the last power by
construction. That the missing power *is* averaging isn't one of them: an L2 decoder answers each lack of information
with it, whatever the cause; gain and coherence by band say whether it does.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TypeVar

import torch
from torch import Tensor

from hfgen.diagnosis.refits import CELLS
from hfgen.diagnosis.shapley import shapley
from hfgen.errors import UserError
from hfgen.metrics import Estimate

Powers = Mapping[str, Tensor]
"""Power of each image in the high band by stage, (N,), or of each of K refits (N, K); `real` is one of them."""

Value = TypeVar("Value", float, Tensor)

_REACHED = ("linear", "best", "inferred", "unquantised", "adversarial", "perfect", *CELLS)
PAIRED = ("real", *_REACHED, "mean", "posterior_sample")
"""Stages whose images are those of `real`, in its order; the others are draws."""

EXACT = "exact"
"""The power of E[x | z], of images of its own, over their power."""

PRIOR, GENERATOR = "prior_refit", "generator_refit"
"""Samples by a prior, or of a generator, that has learnt on."""

_DRAWN = ("prior_sample", PRIOR, GENERATOR)

_RESAMPLES = 1000


def attribute(
    powers: Powers, kept: float, *, seed: int, bounded: bool = True, intervened: bool = True
) -> dict[str, Estimate]:
    """Each cause's share of the high-frequency power, with its 95 % interval by resampling images; signed.

    Args:
        powers: Of the stages that were made, and `EXACT`. Without any intervention on a latent it is a generator, whose
            `prior_sample` or `mean` is all there is.
        kept: Power of the real images over that of images as sharp as their pixels allow; 1 where DATA isn't blurred.
        seed: Of the resampling.
        bounded: Whether the network reaches the bound of its latent's size in squared error.
        intervened: Whether what isn't there was looked for; of an autoencoder that wasn't, all is unexplained.

    Returns:
        `data`, `bottleneck`, `unread`, `network`, `encoder`, `noise` or `codes`, `decoder`, `generator_training`,
        `generator`, `prior_training`, `prior`, `unexplained`, each where it applies; of the power that sharp images
        would have. They sum to `missing`.

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
        if EXACT in means:
            relative[EXACT] = means[EXACT]
        return _causes(relative, kept, bounded, intervened)

    return causes, paired, {name: v for name, v in powers.items() if name not in PAIRED}


def bootstrap(
    statistic: Callable[[Mapping[str, float]], dict[str, float]], paired: Powers, drawn: Powers, *, seed: int
) -> dict[str, Estimate]:
    """A function of means, by 1000 resamples of the images: those of `paired` together, each of `drawn` by itself."""
    value, rows, n = _resampled(statistic, paired, drawn, seed)
    columns = {name: torch.tensor([row[name] for row in rows], dtype=torch.float64) for name in value}
    return {name: interval(number, columns[name], n) for name, number in value.items()}


def _resampled(
    statistic: Callable[[Mapping[str, float]], dict[str, float]], paired: Powers, drawn: Powers, seed: int
) -> tuple[dict[str, float], list[dict[str, float]], int]:
    """The statistic, that of each resample, and the images of the smallest stage."""
    # Draws by the same seeds are alike, as pairs are.
    alike = {name: values for name, values in drawn.items() if name in _DRAWN}
    groups = [paired, alike, *({name: values} for name, values in drawn.items() if name not in alike)]
    groups = [group for group in groups if group]
    generator = torch.Generator().manual_seed(seed)
    resampled: dict[str, Tensor] = {}
    for group in groups:
        resampled |= resampled_means(group, generator)
    value = statistic({name: float(values.mean()) for group in groups for name, values in group.items()})
    rows = [statistic({name: float(means[i]) for name, means in resampled.items()}) for i in range(_RESAMPLES)]
    n = min(len(values) for group in groups for values in group.values())
    return value, rows, n


def resampled_means(group: Powers, generator: torch.Generator) -> dict[str, Tensor]:
    """Means of each of some values over images that are drawn together and refits that are drawn by themselves.

    Values (N,) or, of K refits, (N, K) give means (1000,); those of C measures (N, K, C) give (1000, C). Of K refits
    K - 1 are drawn: of K, the variance would be too small by (K - 1) / K (Rao & Wu 1988).
    """
    size = len(next(iter(group.values())))
    picks = torch.randint(size, (_RESAMPLES, size), generator=generator)
    counts = torch.zeros(picks.shape, dtype=torch.float64).scatter_add_(1, picks, torch.ones(picks.shape).double())
    found = {}
    for name, values in group.items():
        repeated = values.double().reshape(size, 1 if values.ndim == 1 else values.shape[1], -1)
        means = (counts @ repeated.flatten(1) / size).unflatten(1, repeated.shape[1:])
        several = means.shape[1]
        drawn = torch.randint(several, (_RESAMPLES, max(1, several - 1), 1), generator=generator)
        mean = means.gather(1, drawn.expand(-1, -1, means.shape[2])).mean(1)
        found[name] = mean if values.ndim == 3 else mean[:, 0]
    return found


def interval(value: float, resampled: Tensor, n: int) -> Estimate:
    """A number with the middle 95 % of its resamples (R,)."""
    low, high = resampled.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    # Maxima of noisy numbers are biased upwards, so that the value may lie at the interval's edge.
    return Estimate(value, min(low, value), max(high, value), n)


def _causes(power: Mapping[str, float], kept: float, bounded: bool, intervened: bool) -> dict[str, float]:
    last = power.get("prior_sample", power.get("mean", 1.0))
    if power.keys() & set(_REACHED):
        found = _of_autoencoder(power, bounded)
    else:
        found = _learnt("generator", 1.0, power, GENERATOR) if intervened else _as_it_is(power, last)
    scaled = {name: kept * share for name, share in found.items()}
    return {"data": 1 - kept, **scaled, "missing": 1 - kept * last}


def _as_it_is(power: Mapping[str, float], last: float) -> dict[str, float]:
    """Of an autoencoder on which nothing was tried: what its prior loses is known all the same."""
    mean = power.get("mean", last)
    found = {"unexplained": 1 - mean}
    if EXACT in power:
        there = max(min(1.0, mean), min(1.0, power[EXACT]))
        found = {"bottleneck": 1 - there, "unread": there - mean}
    return {**found, **({"prior": mean - last} if "prior_sample" in power else {})}


def _of_autoencoder(power: Mapping[str, float], bounded: bool) -> dict[str, float]:
    mean = power["mean"]
    parts = factors(power)
    reached = mean + sum(parts.values())
    # More than the real power is made up, not carried.
    carried = max(reached, min(1.0, power.get("linear", 0.0)))
    there = max(carried, min(1.0, power.get(EXACT, 0.0)))
    optimised = max(there, min(1.0, power.get("best", 0.0)))
    found = {"network": carried - reached, **parts}
    if EXACT in power:
        found["unread"] = there - carried
    if bounded or EXACT in power:
        found |= {"bottleneck": 1 - optimised, "unexplained": optimised - there}
    else:
        found["unexplained"] = 1 - carried
    if "prior_sample" in power:
        # Reconstructions and draws differ in how their latents are distributed, and in nothing else.
        found |= _learnt("prior", mean, power, PRIOR)
    return found


def _learnt(cause: str, best: float, power: Mapping[str, float], stage: str) -> dict[str, float]:
    """What samples lack: a part that comes back by learning on is training's, the rest the `cause`'s own."""
    drawn = power.get("prior_sample", power.get("mean", 1.0))
    if stage not in power:
        return {cause: best - drawn}
    # What is beyond the best is made up, and no gain.
    reached = min(power[stage], max(best, drawn))
    return {f"{cause}_training": reached - drawn, cause: best - reached}


def factors(value: Mapping[str, Value]) -> dict[str, Value]:
    """What the noise or the codes, the encoder and the decoder bring; {} where a refit is lacking.

    `value`: of each stage, numbers or tensors of one shape. Without refits that are free, there is neither noise nor
    codes. `perfect`, where it is given, is what a better encoder reaches beyond all that learns: it takes the place of
    that of the refits, alone and beside a decoder that learns.
    """
    freed = "codes" if "unquantised" in value else "noise"
    players = ["encoder", "decoder"]
    if any(name in value for name, cell in CELLS.items() if cell.free):
        players.append(freed)
    game = {frozenset[str](): value["mean"]}
    for name, cell in CELLS.items():
        if name in value:
            plays = {freed: cell.free, "encoder": cell.encoder, "decoder": cell.decoder}
            game[frozenset(player for player, does in plays.items() if does)] = value[name]
    if not is_complete(value):
        return {}
    if "perfect" in value:
        game |= dict.fromkeys((frozenset(["encoder"]), frozenset(["encoder", "decoder"])), value["perfect"])
    return shapley(game, players, last=[freed])


def is_complete(stages: Collection[str]) -> bool:
    """Whether all refits are there that the shares of encoder, decoder and noise or codes need."""
    is_freed = any(name in stages for name, cell in CELLS.items() if cell.free)
    return {"mean", "encoder", "decoder", "control", *(["free"] if is_freed else [])} <= set(stages)
