"""From the numbers of a diagnosis and the order of its causes to sentences."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hfgen.diagnosis.ranking import SHARP, WORTH_NAMING, has_too_much, is_blurred
from hfgen.metrics import Estimate, calibration
from hfgen.reporting.numbers import number, overlap, percent


def advise(document: Mapping[str, Any]) -> list[str]:
    """What it means and what to change: the verdict first, then each cause in order, then what else was seen."""
    if document.get("non_finite"):
        return list(dict.fromkeys(map(_non_finite, document["non_finite"])))
    facts = _Facts(document)
    sentences = [_verdict(facts)]
    sentences += [_ADVICE[entry["cause"]](facts) for entry in document["ranking"] if entry["cause"] in _ADVICE]
    return [
        *sentences,
        *_averaging(facts),
        *_precision(facts),
    ]


class _Facts:
    """The document's numbers, as the sentences name them."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.document = document
        self.causes = {name: Estimate(**entry) for name, entry in document["causes"].items()}
        self.chain = {link["stage"]: link for link in document["chain"]}
        self.latent: Mapping[str, Any] = document["latent"]
        self.variety: Mapping[str, Any] = document["variety"] or {}
        self.first: str = document["ranking"][0]["cause"]

    @property
    def steps(self) -> str:
        """Of a refit."""
        return str(self.document["protocol"]["budget"]["refit_steps"]) if "protocol" in self.document else "some"

    @property
    def tried(self) -> bool:
        """Whether copies learned and latents were optimised."""
        return bool(self.document.get("protocol", {}).get("refits", True))

    def cause(self, name: str) -> str:
        return percent(self.causes[name])

    def power(self, stage: str) -> Estimate:
        return Estimate(**self.chain[stage]["power"]["high"])

    def estimate(self, place: Mapping[str, Any], name: str) -> str:
        return number(Estimate(**place[name]))


def _non_finite(found: Mapping[str, Any]) -> str:
    images = "The reconstructions" if found["stage"] == "mean" else "The samples"
    return (
        f"{images} hold NaN or infinity, first {found['image']}: {found['part']} gives it; {found['reason']}. "
        "No cause of blur was looked for."
    )


def _verdict(facts: _Facts) -> str:
    stage = "prior_sample" if "prior_sample" in facts.chain else "mean"
    power = f"{percent(facts.power(stage))} of real images' high-frequency power"
    what = "samples" if stage == "prior_sample" else "reconstructions"
    missing = facts.causes["missing"]
    blurred = is_blurred(missing)
    if blurred and facts.first == "unread":
        there = percent(Estimate(**facts.document["exact"]["share_decoder"]))
        return (
            f"The {what} are blurred: they have {power}; {there} of the detail that decoded latents lack is in the "
            "latent, and the decoder doesn't read it: more training or a better decoder helps, not a larger latent."
        )
    if blurred:
        why = f"first cause: {_name(facts)}" if facts.tried or facts.first != "unexplained" else "why, is open"
        return f"The {what} are blurred: they have {power}; {why}."
    if has_too_much(missing):
        return f"The {what} have too much detail, noise or artefacts: {power}."
    rest = "" if facts.first == "sharp" else f" What is wrong is another thing: {_name(facts)}."
    if abs(missing.value) > SHARP:
        return f"Whether the {what} are sharp isn't clear on so few images: they have {power}.{rest}"
    return f"The {what} are sharp: they have {power}.{rest}"


def _name(facts: _Facts) -> str:
    """The first cause in words."""
    known = facts.first == "bottleneck" and "exact" in facts.document
    return "what the latent doesn't say" if known else _NAMES[facts.first]


_NAMES = {
    "data": "the data itself",
    "bottleneck": "the latent's size, or more training than was tried",
    "unread": "a decoder that doesn't read its latent",
    "network": "a network that doesn't fill its latent (training, width)",
    "noise": "the posterior's noise (KL weight, decoder variance)",
    "codes": "quantisation",
    "encoder": "an under-trained encoder",
    "decoder": "an under-trained decoder",
    "generator_training": "an under-trained generator",
    "generator": "the generator",
    "prior_training": "an under-trained prior",
    "prior": "the prior that latents are drawn from",
    "modes": "missing kinds of images",
    "unexplained": "not found by these interventions",
    "unknown": "not found by these interventions",
    "sharp": "none",
}


def _data(facts: _Facts) -> str:
    quality = facts.document["data_quality"]
    return (
        f"The data itself lacks {facts.cause('data')} of the detail that its pixels could hold: its spectrum falls as "
        f"after a blur of {quality['blur']:.2f} pixels, and no model can be sharper than that. Take originals, or "
        "train at a lower --resolution; `--small_images upscale` makes such images."
    )


def _bottleneck(facts: _Facts) -> str:
    if "exact" in facts.document:
        return (
            f"{facts.cause('bottleneck')} of the high-frequency power isn't in the latent: all that it says of an "
            f"image {_exactly(facts)}. {_MORE_LATENT}"
        )
    numbers = facts.latent.get("numbers")
    size = f" of {numbers} numbers" if numbers else ""
    exact = " (of glyphs `hfgen study posterior` tells)" if facts.document.get("data", {}).get("id") == "glyphs" else ""
    return (
        f"At most {facts.cause('bottleneck')} of the high-frequency power is lost in the latent{size}: no intervention "
        "brings it back, and as many principal components carry less. That the latent doesn't hold it isn't shown: a "
        f"decoder that learns much longer may read more of it{exact}. {_MORE_LATENT}"
    )


_MORE_LATENT = (
    "Raise --model.latent_channels or --model.latent_size (recipe vae-spatial-*), train longer (--max_images), or "
    "accept invented detail: an adversarial term (recipe vaegan-*)."
)


def _exactly(facts: _Facts) -> str:
    """What E[x | z] has."""
    images = facts.document["exact"]["n"]
    return f"(E[x | z], exactly, of {images} images) has {percent(facts.power('exact'))} of real power"


def _unread(facts: _Facts) -> str:
    tried = f"nothing that was tried for {facts.steps} steps reads it" if facts.tried else "the decoder doesn't show it"
    return (
        f"{facts.cause('unread')} of the high-frequency power is in the latent, and {tried}: all that the latent says "
        f"of an image {_exactly(facts)}. A larger latent isn't needed: train longer (--max_images, --start_from MODEL) "
        "or a better decoder (--model.width); `hfgen study decoders MODEL` shows how far images and width go."
    )


def _unexplained(facts: _Facts) -> str:
    share = f"{facts.cause('unexplained')} of the high-frequency power is missing"
    if not facts.tried:
        return f"{share}, and nothing was tried to say why: `--refits` trains copies of the network for some steps."
    return (
        f"{share} and no intervention says why: neither the latent's size nor the decoder's training was shown to be "
        "behind it. `--budget full` trains copies longer."
    )


def _network(facts: _Facts) -> str:
    return (
        f"{facts.cause('network')} would pass as many principal components as the latent has numbers, but not this "
        "network, even trained on without noise or codes: its size, not the latent's, or its training holds it back. "
        "Raise --max_images or --model.width, or take a larger grid of fewer channels (--model.latent_size)."
    )


def _noise(facts: _Facts) -> str:
    active, rate = (facts.estimate(facts.latent, name) for name in ("active_units", "rate_bits"))
    return (
        f"{facts.cause('noise')} comes back when copies learn without the posterior's noise and its KL, beyond what "
        f"learning on brings ({rate} bits in {active} active of {facts.latent['numbers']} units): lower "
        f"--model.kl_weight or --model.variance, or set --model.free_bits.{_of_decoder_alone(facts)}"
    )


def _of_decoder_alone(facts: _Facts) -> str:
    """What can be had with the latents as they are, which other models may have been trained on."""
    if not {"free_decoder", "mean"} <= facts.chain.keys():
        return ""
    before, after = facts.power("mean"), facts.power("free_decoder")
    if after.low <= before.high:
        return ""
    return f" With the encoder as it is, a decoder of the latents without them has {percent(after)} of real power."


def _codes(facts: _Facts) -> str:
    perplexity, size = facts.estimate(facts.latent, "codebook_perplexity"), facts.latent["codebook_size"]
    return (
        f"{facts.cause('codes')} comes back when copies learn without quantisation, beyond what learning on brings "
        f"({perplexity} of {size} codes in effective use): raise --model.codes, or --model.latent_size for more codes "
        f"an image.{_of_decoder_alone(facts)}"
    )


def _encoder(facts: _Facts) -> str:
    return (
        f"{facts.cause('encoder')} comes back when the encoder learns for {facts.steps} more steps: it is "
        "under-trained. Train it longer (--max_images, or --start_from MODEL) or wider (--model.width)."
    )


def _decoder(facts: _Facts) -> str:
    return (
        f"{facts.cause('decoder')} comes back when the decoder learns for {facts.steps} more steps: it is "
        "under-trained. Raise --max_images, or continue with --start_from MODEL --model.freeze_encoder true."
    )


def _generator(facts: _Facts) -> str:
    training = facts.causes.get("generator_training")
    worse = training is not None and training.high < 0
    share = facts.cause("missing" if worse else "generator")
    tried = f" ({facts.steps} more steps made it worse, which says nothing about its training)" if worse else ""
    return (
        f"The generator leaves out {share} of the high-frequency power{tried}: train longer "
        "(--max_images), give the adversary more weight (of a GAN: lower --model.penalty), or take a stronger network "
        "(recipe gan-r3-*)."
    )


def _generator_training(facts: _Facts) -> str:
    return f"{_learnt(facts, 'generator')}: it is under-trained. Train longer (--max_images)."


def _prior_training(facts: _Facts) -> str:
    return (
        f"{_learnt(facts, 'prior')}, on the codes of training images: it is under-trained. Train it longer "
        "(--max_images, or --start_from MODEL with a small --model.prior_begin)."
    )


def _learnt(facts: _Facts, part: str) -> str:
    """What comes back where a part that draws learns on."""
    own, better = (Estimate(**facts.chain[name]["kid"]) for name in ("prior_sample", f"{part}_refit"))
    share = facts.cause(f"{part}_training")
    return (
        f"{share} of the high-frequency power comes back where the {part} alone learns for {facts.steps} more steps; "
        f"samples have a KID of {number(better)} then, and of {number(own)} as it is"
    )


def _prior(facts: _Facts) -> str:
    share = f"{facts.cause('prior')} of the high-frequency power is lost in drawing latents. " if _lost(facts) else ""
    if "prior_refit" in facts.chain:
        return (
            f"{share}Learning on for {facts.steps} steps doesn't bring it back to the prior of codes: take a larger "
            "one (--model.prior_width, --model.prior_layers), train it much longer (--max_images), or take fewer codes "
            "an image (--model.latent_size)."
        )
    if not {"prior_sample", "fitted_density"} <= facts.chain.keys():
        return (
            f"{share}The latents that are drawn aren't those that the decoder was trained on: train the prior longer."
        )
    own, fitted = (Estimate(**facts.chain[name]["kid"]) for name in ("prior_sample", "fitted_density"))
    if not overlap(own, fitted) and fitted.value < own.value:
        return (
            f"{share}Samples of the model's own prior have a KID of {number(own)}, of a density fitted to its latents "
            f"{number(fitted)}: the latents that it draws aren't those that its decoder was trained on. Set "
            "--model.prior mixture (for a published model, fit a LatentPrior to its latents); for codes, train the "
            "prior longer."
        )
    return (
        f"{share}A mixture of Gaussians fitted to its latents does no better (KID {number(fitted)}, its own prior "
        f"{number(own)}): so many numbers that depend on each other need a prior that is a network, as a VQ-VAE or a "
        "latent diffusion model has; or take fewer latent numbers."
    )


def _lost(facts: _Facts) -> bool:
    return "prior" in facts.causes and facts.causes["prior"].value > WORTH_NAMING


def _modes(facts: _Facts) -> str:
    missing = facts.variety["missing"]
    names = ", ".join(group["name"] for group in missing[:10])
    remedy = "fit the prior anew (--model.prior mixture; for codes, train it longer)"
    if "generator" in facts.causes:
        remedy = "raise --model.penalty or take --model.loss relativistic, which compares every real image with a fake"
    return (
        f"{len(missing)} {facts.variety['kind']} with {facts.variety['missing_share']:.0%} of the real images are "
        f"(nearly) never drawn: {names} (missing.png shows real ones). Check that the training data holds them; "
        f"then {remedy}."
    )


_ADVICE: dict[str, Callable[[_Facts], str]] = {
    "data": _data,
    "bottleneck": _bottleneck,
    "unread": _unread,
    "network": _network,
    "noise": _noise,
    "codes": _codes,
    "encoder": _encoder,
    "decoder": _decoder,
    "generator_training": _generator_training,
    "generator": _generator,
    "prior_training": _prior_training,
    "prior": _prior,
    "modes": _modes,
    "unexplained": _unexplained,
}


_OF_GAIN = {
    "made up": "a part of the detail is made up instead of averaged",
    "shrunk": "the detail is fainter than averaging would leave it",
    "undecided": "these images are too few to tell whether the decoder averages",
    "conditional mean": "what is missing was averaged",
}


def _averaging(facts: _Facts) -> list[str]:
    """What the objective does about the missing information."""
    bands = facts.document.get("bands")
    if not bands:
        return []
    gain = Estimate(**bands["high"]["gain"])
    found = calibration(gain)
    back = ""
    if found == "conditional mean" and "adversarial" in facts.chain:
        # Two numbers that were measured on the same images.
        before, after = facts.power("decoder"), facts.power("adversarial")
        if after.low > before.high:
            back = (
                f"; the decoder alone, refit with an adversarial term, has {percent(after)} instead of "
                f"{percent(before)}, with no new information (recipe vaegan-finetune-decoder)"
            )
    return [f"The gain of the high frequencies is {number(gain)}: {_OF_GAIN[found]}{back}."]


def _precision(facts: _Facts) -> list[str]:
    if "low_precision" not in facts.chain:
        return []
    # Against the original, both; the difference is what the arithmetic costs.
    exact, low = facts.power("mean"), facts.power("low_precision")
    if overlap(exact, low):
        return []
    return [f"Decoding in bf16 changes the high-frequency power from {percent(exact)} to {percent(low)}: use fp32."]
