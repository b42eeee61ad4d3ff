"""MODEL and DATA -> diagnosis.json, waterfall.png and the advice in words."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from hfgen import metrics
from hfgen.data import batch_indices, open_store
from hfgen.diagnosis.advice import advise, rank
from hfgen.diagnosis.attribution import PAIRED, attribute
from hfgen.diagnosis.budgets import BUDGETS
from hfgen.diagnosis.chain import Stages, make_stages
from hfgen.diagnosis.data_quality import data_quality
from hfgen.diagnosis.figure import missing_gallery, waterfall
from hfgen.diagnosis.variety import Variety, variety
from hfgen.documents import DIAGNOSIS
from hfgen.errors import UserError
from hfgen.evaluation.measurement import HeldOut, held_out_images
from hfgen.evaluation.run import SmallImages, encode
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
    extractor: str = "embedded",
    resolution: int | None = None,
    variant: str | None = None,
) -> dict[str, Any]:
    """Find out why a model's images are blurred, or that they aren't; writes into `out` and returns the document.

    Interrupted, the same call continues with the steps that `out` holds. The refits learn from DATA's train split;
    nothing else of the model's training is needed. Arguments that `hfgen.evaluation.run.evaluate` has mean the same.

    Args:
        model: Whatever `hfgen.load` opens.
        data: Images like those that it was trained on.
        out: Folder for diagnosis.json, waterfall.png and, where groups of images are missing, missing.png.
        split: Of the held-out images.
        budget: `small` or `full`; see `hfgen.diagnosis.budgets`.
        n: Held-out images; the budget's by default, or all where there are fewer.
        seed: Of every draw.
        small_images: See `evaluate`.
        skip_damaged: See `evaluate`.
        extractor: See `evaluate`.
        resolution: See `hfgen.load`.
        variant: See `hfgen.load`.

    Raises:
        UserError: the model, the data or the extractor can't be had, an unknown budget, or too few images.
    """
    if budget not in BUDGETS:
        raise UserError(f"budget: {budget!r} is none; choose {' or '.join(BUDGETS)}")
    pipeline, folder = open_model(model, variant=variant, resolution=resolution)
    pipeline.set_progress_bar_config(disable=True)
    settings: dict[str, Any] = {
        "resolution": pipeline.sample_size,
        "channels": pipeline.channels,
        "condition": pipeline.paired_with,
        "small_images": small_images,
        "skip_damaged": skip_damaged,
    }
    there = len(open_store(data, split=split, **settings))
    count = min(n or BUDGETS[budget].images, there) if n is None else n
    if count < _FEWEST:
        raise UserError(f"n: {count} held-out images are too few for a diagnosis; give at least {_FEWEST}")
    real = held_out_images(data, split=split, n=count, seed=seed, extractor=extractor, **settings)
    facts = {
        "schema": DIAGNOSIS.version,
        "model": {"id": str(model), "family": pipeline.family, "parameters": pipeline.parameter_count},
        "data": {"id": data, "split": split, "n": count, "fingerprint": real.store.fingerprint},
        "protocol": {
            "seed": seed,
            "budget": {"name": budget, **BUDGETS[budget]._asdict()},
            "extractor": real.extractor.facts(),
            "versions": {name: version(name) for name in ("hfgen", "torch", "diffusers")},
        },
    }

    @cache
    def training() -> Tensor:
        store = open_store(data, split="train", **settings)
        most = max(_FEWEST, min(_MOST_TRAINING, _TRAINING_PIXELS // real.images[0].numel(), len(store)))
        return store.gather(batch_indices(len(store), 0, min(most, len(store)), seed))[:, : store.channels]

    with workspace(out, {**facts, "weights": folder_state(folder)}) as partial_results:
        stages = make_stages(pipeline, real.inputs, training, BUDGETS[budget], seed, partial_results)
        document = {**facts, **describe(pipeline, real, stages, seed)}
        write_bytes(out / "waterfall.png", encode_picture(waterfall(document)))
        if document["variety"] and document["variety"]["missing"]:
            write_png(out / "missing.png", missing_gallery(document, real.images))
        DIAGNOSIS.write(out / "diagnosis.json", document)
    return document


def describe(pipeline: ImagePipeline, real: HeldOut, stages: Stages, seed: int) -> dict[str, Any]:
    """The numbers of a diagnosis, from the images of its stages."""
    quality = data_quality(real.images)
    spectra = {name: metrics.power_spectrum(images) for name, images in stages.items()}
    powers = {name: spectrum.high for name, spectrum in spectra.items() if name not in ("inversion", "low_precision")}
    causes = attribute({"real": real.spectrum.high, **powers}, quality.kept, seed=seed)
    found = None if "prior_sample" not in stages else variety(real, stages["prior_sample"], seed)
    document: dict[str, Any] = {
        "chain": [_link(real, name, stages[name], spectra[name], seed) for name in stages],
        "causes": {name: estimate.as_dict() for name, estimate in causes.items()},
        "identity": _identity(real, stages, seed),
        "data_quality": quality._asdict(),
        "latent": _latent(pipeline, real, seed),
        "variety": _as_json(found, real) if found else None,
        "baseline": {name: real.baseline[name].as_dict() for name in ("kid", "coverage", "precision", "recall")},
    }
    document["ranking"] = rank(document)
    return {**document, "advice": advise(document)}


def _link(real: HeldOut, name: str, images: Tensor, spectrum: metrics.PowerSpectrum, seed: int) -> dict[str, Any]:
    """Power by band relative to real, KID and, of pairs, PSNR."""
    paired = name in PAIRED or name in ("inversion", "low_precision")
    power = {}
    for band in _BANDS:
        pair = getattr(spectrum, band), getattr(real.spectrum, band)
        power[band] = metrics.bootstrap_ratio(*pair, seed=seed, paired=paired).as_dict()
    distance = metrics.kernel_distance_interval(real.features, real.extractor.features(images))
    link = {"stage": name, "power": power, "kid": distance.as_dict()}
    if paired:
        link["psnr"] = metrics.bootstrap_mean(metrics.capped_psnr(real.images, images), seed=seed).as_dict()
    return link


def _identity(real: HeldOut, stages: Stages, seed: int) -> dict[str, Any] | None:
    """The averaging identity at the reconstruction; from posterior samples where there are any, which it is about."""
    images = stages.get("posterior_sample", stages.get("mean"))
    if images is None or torch.equal(images, real.images):
        return None
    return {k: e.as_dict() for k, e in metrics.averaging_identity(real.images, images).estimates(seed=seed).items()}


def _latent(pipeline: ImagePipeline, real: HeldOut, seed: int) -> dict[str, Any]:
    """How large the latent is, and how much of it is used."""
    encoded = encode(pipeline, real.inputs)
    found: dict[str, Estimate] = {}
    if "rate_bits" in encoded:
        found["rate_bits"] = metrics.bootstrap_mean(encoded["rate_bits"].double(), seed=seed)
        found["active_units"] = metrics.active_units_interval(encoded["posterior_mean"])
    if "codes" in encoded and pipeline.codebook_size:
        use = metrics.codebook_use(encoded["codes"], pipeline.codebook_size, seed=seed)
        found |= {"codebook_perplexity": use.perplexity, "codebook_usage": use.usage}
    numbers = encoded["posterior_mean"].shape[1] if "posterior_mean" in encoded else None
    codes = {"codes_per_image": encoded["codes"].shape[1]} if "codes" in encoded else {}
    return {
        "numbers": numbers,
        "codebook_size": pipeline.codebook_size,
        **codes,
        **{name: estimate.as_dict() for name, estimate in found.items()},
    }


def _as_json(found: Variety, real: HeldOut) -> dict[str, Any]:
    missing = [
        {"name": group.name, "real": group.real, "drawn": group.drawn.as_dict(), "members": group.members}
        for group in found.missing
    ]
    estimates = {name: estimate.as_dict() for name, estimate in found.estimates.items()}
    return {**estimates, "kind": found.kind, "missing_share": found.share, "missing": missing}
