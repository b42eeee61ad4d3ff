"""MODEL and DATA -> diagnosis.json, waterfall.png and the advice in words."""

from __future__ import annotations

from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from hfgen import metrics
from hfgen.data import batch_indices, open_store
from hfgen.data_options import SmallImages
from hfgen.devices import choose
from hfgen.diagnosis.advice import advise, rank
from hfgen.diagnosis.attribution import PAIRED, attribute
from hfgen.diagnosis.budgets import BUDGETS
from hfgen.diagnosis.chain import Chain, Stages, make_stages
from hfgen.diagnosis.data_quality import data_quality
from hfgen.diagnosis.figure import missing_gallery, waterfall
from hfgen.diagnosis.variety import Variety, variety
from hfgen.documents import DIAGNOSIS
from hfgen.errors import DataError, SettingsError
from hfgen.evaluation.held_out import HeldOut, choose_n, held_out_images
from hfgen.evaluation.passes import encode
from hfgen.evaluation.set_metrics import baseline
from hfgen.evaluation.workspace import workspace
from hfgen.files import folder_state, write_bytes
from hfgen.images import write_png
from hfgen.metrics import Estimate
from hfgen.pipelines import ImagePipeline
from hfgen.pipelines.loading import open_model
from hfgen.reporting.charts import encode as encode_picture

_MOST_TRAINING, _TRAINING_PIXELS = 4096, 2**26
_FEWEST = 20
_BANDS = ("low", "middle", "high")
_LOW = "low_precision"


def diagnose(
    model: str | Path,
    data: str,
    *,
    out: Path,
    split: str = "test",
    budget: Literal["small", "full"] = "small",
    n: int | None = None,
    seed: int = 0,
    small_images: SmallImages = "refuse",
    skip_damaged: bool = False,
    image_column: str | None = None,
    label_column: str | None = None,
    config_name: str | None = None,
    extractor: str = "embedded",
    resolution: int | None = None,
    variant: str | None = None,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
) -> dict[str, Any]:
    """Find out why a model's images are blurred, or that they aren't; writes into `out` and returns the document.

    Interrupted, the same call continues with the steps that `out` holds. The refits learn from DATA's train split;
    nothing else of the model's training is needed. Arguments of `hfgen.evaluation.evaluate.evaluate` mean the same.

    Args:
        model: Whatever `hfgen.load` opens.
        data: Images like those that it was trained on.
        out: Folder for diagnosis.json, waterfall.png and, where groups of images are missing, missing.png.
        split: Of the held-out images.
        budget: `small` or `full`; see `hfgen.diagnosis.budgets`.
        n: Held-out images; the budget's by default, or all where there are fewer; at least 20.
        seed: Of every draw.
        small_images: See `evaluate`.
        skip_damaged: See `evaluate`.
        image_column: See `hfgen.data.open_store`.
        label_column: See `hfgen.data.open_store`.
        config_name: See `hfgen.data.open_store`.
        extractor: See `evaluate`.
        resolution: See `hfgen.load`.
        variant: See `hfgen.load`.
        device: See `evaluate`.
        dtype: See `evaluate`; refits are fp32, and one stage is bf16 anyway.

    Raises:
        UserError: the model, the data or the extractor can't be loaded, an unknown budget, too few images, or images
            without detail.
    """
    if budget not in BUDGETS:
        raise SettingsError(f"budget: {budget!r} is unknown; choose {' or '.join(BUDGETS)}")
    compute = choose(device, dtype)
    most = BUDGETS[budget].images
    choose_n(data, split, n, fewest=_FEWEST, most=most, extractor=extractor, config_name=config_name)
    pipeline, folder = open_model(model, variant=variant, resolution=resolution)
    pipeline = compute.place(pipeline)
    pipeline.set_progress_bar_config(disable=True)
    settings: dict[str, Any] = {
        "resolution": pipeline.sample_size,
        "channels": pipeline.channels,
        "condition": pipeline.paired_with,
        "small_images": small_images,
        "skip_damaged": skip_damaged,
        "image_column": image_column,
        "label_column": label_column,
        "config_name": config_name,
    }
    with metrics.measuring(compute):
        real = held_out_images(
            data, split=split, n=n, most=most, seed=seed, extractor=extractor, device=compute.device, **settings
        )
        count = len(real.images)
        # Of fewer, some resample would hold none, and shares of no power aren't defined.
        if (detailed := int((real.spectrum.high > 0).sum())) < _FEWEST:
            raise DataError(
                f"data: {detailed} of the {count} images have power above .25 cycles/pixel, and a diagnosis needs "
                f"{_FEWEST} such; use images that aren't flat"
            )
        facts = {
            "schema": DIAGNOSIS.version,
            "model": {"id": str(model), "family": pipeline.family, "parameters": pipeline.parameter_count},
            "data": {"id": data, "split": real.store.split, "n": count, "fingerprint": real.store.fingerprint},
            "protocol": {
                "seed": seed,
                "budget": {"name": budget, **BUDGETS[budget]._asdict()},
                "extractor": real.extractor.facts(),
                "versions": {name: version(name) for name in ("hfgen", "torch", "diffusers")},
                **compute.facts(),
            },
        }

        @cache
        def training() -> Tensor:
            store = open_store(data, split="train", **settings)
            most = max(_FEWEST, min(_MOST_TRAINING, _TRAINING_PIXELS // real.images[0].numel(), len(store)))
            return store.gather(batch_indices(len(store), 0, min(most, len(store)), seed))[:, : store.channels]

        with workspace(out, {**facts, "weights": folder_state(folder)}) as partial_results:
            chain = make_stages(pipeline, real.inputs, training, BUDGETS[budget], seed, partial_results)
            document = {**facts, **describe(pipeline, real, chain, seed)}
            (out / "waterfall.png").unlink(missing_ok=True)
            (out / "missing.png").unlink(missing_ok=True)
            if document["causes"]:
                write_bytes(out / "waterfall.png", encode_picture(waterfall(document)))
            if document["variety"] and document["variety"]["missing"]:
                write_png(out / "missing.png", missing_gallery(document, real.images))
            DIAGNOSIS.write(out / "diagnosis.json", document)
        return document


def describe(pipeline: ImagePipeline, real: HeldOut, chain: Chain, seed: int) -> dict[str, Any]:
    """The numbers of a diagnosis, from the images of its stages.

    Of a model that gives NaN or infinity as it is, that is the finding, and no cause of blur is looked for.
    """
    found, stages = metrics.Collector(), chain.stages
    spectra = {name: metrics.power_spectrum(images, real.window) for name, images in stages.items()}
    quality = data_quality(real.images)
    causes: dict[str, Estimate] = {}
    if not chain.broken:
        powers = {name: spectrum.high for name, spectrum in spectra.items() if name not in ("inversion", _LOW)}
        causes = attribute({"real": real.spectrum.high, **powers}, quality.kept, seed=seed)
    known = baseline(real).estimates
    seen = variety(real, stages["prior_sample"], seed, found) if "prior_sample" in stages else None
    document: dict[str, Any] = {
        "chain": [_link(real, name, stages[name], spectra[name], seed, found) for name in stages],
        "causes": {name: estimate.as_dict() for name, estimate in causes.items()},
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
    document["notes"] = [*real.notes, *failed, *found.notes]
    document["ranking"] = rank(document)
    return {**document, "advice": advise(document)}


def _link(
    real: HeldOut, name: str, images: Tensor, spectrum: metrics.PowerSpectrum, seed: int, found: metrics.Collector
) -> dict[str, Any]:
    """Power by band relative to real, KID and, of pairs, PSNR; each where it is defined."""
    paired = name in PAIRED or name in ("inversion", _LOW)
    power = {}
    for band in _BANDS:
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
