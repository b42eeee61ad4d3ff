"""The numbers of a diagnosis: what the gates found, and the powers of the chain, of the latent and of the samples."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from hfgen import metrics
from hfgen.diagnosis.attribution import EXACT, PAIRED, attribute, leads
from hfgen.diagnosis.chain import Chain, Stages
from hfgen.diagnosis.commands import address
from hfgen.diagnosis.currencies import BANDS, shares
from hfgen.diagnosis.data_quality import data_quality
from hfgen.diagnosis.exact import Exact
from hfgen.diagnosis.gates.context import Context
from hfgen.diagnosis.gates.inspection import inspect
from hfgen.diagnosis.variety import Variety, variety
from hfgen.diagnosis.verdict import conclude
from hfgen.evaluation.held_out import HeldOut
from hfgen.evaluation.passes import encode
from hfgen.evaluation.set_metrics import baseline
from hfgen.metrics import Estimate
from hfgen.pipelines import ImagePipeline
from hfgen.pipelines.autoencoder import codec_of

_LOW = "low_precision"


def describe(
    pipeline: ImagePipeline,
    real: HeldOut,
    chain: Chain,
    training: Callable[[], Tensor],
    facts: dict[str, Any],
    exact: Exact | None = None,
) -> dict[str, Any]:
    """Everything that diagnosis.json says beyond `facts`, from the images of the chain's stages.

    `exact`: what the latents say, where it is known. Of a model that gives NaN or infinity as it is, that is the
    finding, and no cause of blur is looked for.
    """
    found, stages, seed = metrics.Collector(), chain.stages, facts["protocol"]["seed"]
    codec, known = codec_of(pipeline), baseline(real).estimates
    seen = variety(real, stages["prior_sample"], seed, found) if "prior_sample" in stages else None
    passed = inspect(
        Context(
            images=real.images,
            network=codec,
            pipeline=pipeline,
            made=stages.get("mean"),
            samples=stages.get("prior_sample"),
            held_out=real,
            variety=seen.estimates if seen else {},
            baseline=known,
            training=training,
            model=address(facts["model"]["id"], "MODEL"),
            data=address(facts["data"]["id"], "DATA"),
            seed=seed,
        )
    )
    faults = {each.name: each for each in passed.findings if each.severity == "fault"}
    spectra = {name: metrics.power_spectrum(images, real.window) for name, images in stages.items()}
    quality = data_quality(real.images)
    causes: dict[str, Estimate] = {}
    first: dict[str, float] = {}
    if not chain.broken:
        powers = {name: spectrum.high for name, spectrum in spectra.items() if name not in ("inversion", _LOW)}
        powers |= {
            name: _high_of(parts, real) for name, parts in [*chain.cells(real.images).items(), *chain.draws.items()]
        }
        # Smooth subjects are no fault of the data; traces of enlarging are.
        kept, bounded = quality.kept if "data" in faults else 1.0, "under_trained" not in faults
        intervened = chain.intervened or codec is None
        powers = {"real": real.spectrum.high, **powers, **({EXACT: exact.powers} if exact else {})}
        causes = attribute(powers, kept, seed=seed, bounded=bounded, intervened=intervened)
        first = leads(powers, kept, seed=seed, bounded=bounded, intervened=intervened)
    document: dict[str, Any] = {
        "gates": [each.as_dict() for each in passed.findings],
        "chain": [_link(real, name, stages[name], spectra[name], seed, found) for name in stages]
        + ([exact.link] if exact else []),
        **({"exact": exact.facts} if exact else {}),
        "causes": {name: estimate.as_dict() for name, estimate in causes.items()},
        "leads": first,
        "shares": {
            measure: {name: estimate.as_dict() for name, estimate in parts.items()}
            for measure, parts in (shares(real, chain, seed, found) if not chain.broken else {}).items()
        },
        **_averaging(real, stages, seed, found),
        "data_quality": quality._asdict(),
        "latent": _latent(pipeline, real, seed, found) if not chain.broken else _sizes(pipeline),
        "variety": _as_json(seen, real) if seen else None,
        "baseline": {
            name: known[name].as_dict() for name in ("kid", "coverage", "precision", "recall") if name in known
        },
        "kid_of_blur": metrics.kid_of_blur(real.extractor, real.features, real.others),
        "non_finite": [
            {"stage": name, "part": error.part, "image": f"{error.what} {error.number}", "reason": error.reason}
            for name, error in chain.broken.items()
        ],
    }
    failed = [
        f"{name}: left out ({error.part} gives NaN or infinity)"
        for name, error in chain.failed.items()
        if name not in chain.broken
    ]
    document["notes"] = [
        *real.notes,
        *(exact.notes if exact else []),
        *chain.notes,
        *failed,
        *passed.notes,
        *found.notes,
    ]
    return {**document, **conclude({**facts, **document})}


def _high_of(repeats: list[Tensor], real: HeldOut) -> Tensor:
    """Power of each image in the high band, of each refit (N, K)."""
    return torch.stack([metrics.power_spectrum(images, real.window).high for images in repeats], 1)


def _link(
    real: HeldOut, name: str, images: Tensor, spectrum: metrics.PowerSpectrum, seed: int, found: metrics.Collector
) -> dict[str, Any]:
    """Power by band relative to real, KID and, of pairs, PSNR; each where it is defined."""
    paired = name in PAIRED or name in ("inversion", _LOW)
    power = {}
    for band in BANDS:
        pair = getattr(spectrum, band), getattr(real.spectrum, band)
        ratio = partial(metrics.bootstrap_ratio, *pair, seed=seed, paired=paired)
        if estimate := found.attempt(f"{name}, power of the {band} band", ratio):
            power[band] = estimate.as_dict()
    link: dict[str, Any] = {"stage": name, "power": power}
    features = real.extractor.features(images)
    if kid := found.attempt(f"{name}, kid", lambda: metrics.kernel_distance_interval(real.features, features)):
        link["kid"] = kid.as_dict()
    if paired:
        link["psnr"] = metrics.bootstrap_mean(metrics.capped_psnr(real.images, images), seed=seed).as_dict()
    return link


def _averaging(real: HeldOut, stages: Stages, seed: int, found: metrics.Collector) -> dict[str, Any]:
    """Gain, coherence and power by band at the reconstruction, and the averaging identity, which follows from them.

    From posterior samples where there are any, of which a conditional mean has a gain of 1.
    """
    images = stages.get("posterior_sample", stages.get("mean"))
    if images is None or torch.equal(images, real.images):
        return {"identity": None, "bands": None}
    measures = metrics.band_measures(real.images, images, real.window)
    identity = found.attempt("identity", lambda: measures.averaging_identity().estimates(seed=seed))

    def by_band() -> dict[str, Estimate]:
        bands = measures.estimates(seed=seed).items()
        return {f"{name}.{kind}": estimate for name, band in bands for kind, estimate in band._asdict().items()}

    bands: dict[str, dict[str, Any]] = {}
    for path, estimate in (found.attempt("gain", by_band) or {}).items():
        name, _, kind = path.partition(".")
        bands.setdefault(name, {})[kind] = estimate.as_dict()
    return {
        "identity": {name: estimate.as_dict() for name, estimate in identity.items()} if identity else None,
        "bands": bands or None,
    }


def _latent(pipeline: ImagePipeline, real: HeldOut, seed: int, found: metrics.Collector) -> dict[str, Any]:
    """How large the latent is, and how much of it is used."""
    encoded = encode(pipeline, real.inputs)
    use = metrics.Collector("latent: ")
    if "rate_bits" in encoded:
        use.add("rate_bits", lambda: metrics.bootstrap_mean(encoded["rate_bits"].double(), seed=seed))
        use.add("active_units", lambda: metrics.active_units_interval(encoded["posterior_mean"]))
    size = pipeline.codebook_size
    if "codes" in encoded and size:
        use.add("codebook", lambda: _codebook(encoded["codes"], size))
    found.notes += use.notes
    numbers = encoded["posterior_mean"].shape[1] if "posterior_mean" in encoded else None
    codes = {"codes_per_image": encoded["codes"].shape[1]} if "codes" in encoded else {}
    estimates = {name: estimate.as_dict() for name, estimate in use.estimates.items()}
    return {**_sizes(pipeline), "numbers": numbers, **codes, **estimates}


def _codebook(codes: Tensor, size: int) -> dict[str, Estimate]:
    use = metrics.codebook_use(codes, size)
    return {"codebook_perplexity": use.perplexity, "codebook_usage": use.usage}


def _sizes(pipeline: ImagePipeline) -> dict[str, Any]:
    return {"numbers": None, "codebook_size": pipeline.codebook_size}


def _as_json(found: Variety, real: HeldOut) -> dict[str, Any]:
    missing = [
        {"name": group.name, "real": group.real, "drawn": group.drawn.as_dict(), "members": group.members}
        for group in found.missing
    ]
    estimates = {name: estimate.as_dict() for name, estimate in found.estimates.items()}
    return {**estimates, "kind": found.kind, "missing_share": found.share, "missing": missing}
