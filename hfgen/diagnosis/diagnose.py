"""MODEL and DATA -> diagnosis.json, report.html, waterfall.png and the advice in words."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from hfgen import metrics
from hfgen.data import as_data, batch_indices, found_once, open_store
from hfgen.data_options import SmallImages
from hfgen.devices import Compute
from hfgen.diagnosis.against import compare
from hfgen.diagnosis.budgets import BUDGETS
from hfgen.diagnosis.chain import Chain, make_stages
from hfgen.diagnosis.description import describe
from hfgen.diagnosis.exact import find_exact
from hfgen.diagnosis.figure import missing_gallery, waterfall
from hfgen.diagnosis.plan import announce, make_plan
from hfgen.diagnosis.verdict_page import render
from hfgen.documents import DIAGNOSIS, versions
from hfgen.errors import DataError, SettingsError
from hfgen.evaluation.held_out import HeldOut, choose_n, held_out_images
from hfgen.evaluation.trained_on import leak_notes
from hfgen.evaluation.workspace import workspace
from hfgen.files import write_bytes, write_text
from hfgen.images import write_png
from hfgen.pipelines.autoencoder import seams_of
from hfgen.pipelines.given import chosen_channels, compute_for, given_id, opened, settle
from hfgen.reporting.charts import encode as encode_picture
from hfgen.seeds import check_seed

_MOST_TRAINING, _TRAINING_PIXELS = 4096, 2**26
_FEWEST = 20
_SEAM_IMAGES = 4
"""Of tiled models: as many go through whole as well."""


@found_once()
def diagnose(
    model: Any,
    data: Any,
    *,
    out: str | Path,
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
    channels: int | Literal["auto"] = "auto",
    variant: str | None = None,
    tile: int | None = None,
    refits: bool | None = None,
    against: Any | None = None,
    posterior: str | Path | None = None,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
) -> dict[str, Any]:
    """Find out why a model's images are blurred, or that they aren't; writes into `out` and returns the document.

    Interrupted, the same call continues with the steps that `out` holds. The refits learn from DATA's train split;
    nothing else of the model's training is needed. Arguments of `hfgen.evaluation.evaluate.evaluate` mean the same.

    Args:
        model: Whatever `hfgen.load` opens, or what is loaded, as `evaluate` takes it. A loaded model is left as it was.
        data: Images like those that it was trained on: DATA, or what `evaluate` takes in its place.
        out: Folder for diagnosis.json, report.html, waterfall.png and, where groups are missing, missing.png.
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
        channels: See `evaluate`.
        variant: See `hfgen.load`.
        tile: See `hfgen.load`; `tiles` of the document has the error along the seams.
        refits: Whether copies of the network are trained and latents optimised; None: of a model below 20 million
            parameters and 256 pixels. Of a larger one, at most 32 images are looked at by default.
        against: Another model, diagnosed on the same images into `out`/against: `against` says why they differ. Without
            a `resolution` it takes this model's.
        posterior: Folder of the posterior.json that `hfgen study posterior` wrote of the model, and of `against`: what
            the latents of glyphs say exactly bounds what is put down to the latent.
        device: See `evaluate`.
        dtype: See `evaluate`; refits are fp32, and one stage is bf16 anyway.

    Raises:
        UserError: the model, the data or the extractor can't be loaded, an unknown budget, too few images, images
            without detail, or a posterior of another model.
    """
    out, data = Path(out), as_data(data)
    if budget not in BUDGETS:
        raise SettingsError(f"budget: {budget!r} is unknown; choose {' or '.join(BUDGETS)}")
    check_seed(seed)
    compute, exact, other = compute_for(model, device, dtype), None, None
    if posterior is not None:
        exact = find_exact(posterior, model, str(data), compute, variant=variant, resolution=resolution)
    if against is not None:
        other = diagnose(
            against,
            data,
            out=out / "against",
            split=split,
            budget=budget,
            n=n,
            seed=seed,
            small_images=small_images,
            skip_damaged=skip_damaged,
            image_column=image_column,
            label_column=label_column,
            config_name=config_name,
            extractor=extractor,
            resolution=resolution or _side(model, against, compute, variant),
            channels=channels,
            variant=variant,
            tile=tile,
            refits=refits,
            posterior=posterior,
            device=device,
            dtype=dtype,
        )
    choose_n(data, split, n, fewest=_FEWEST, extractor=extractor, config_name=config_name)
    opening = opened(model, compute, variant=variant, resolution=resolution, tile=tile)
    with opening as (pipeline, origin), metrics.measuring(compute):
        plan = make_plan(pipeline, BUDGETS[budget], refits)
        settings: dict[str, Any] = {
            "resolution": pipeline.sample_size,
            "channels": chosen_channels(pipeline, channels, data),
            "condition": pipeline.paired_with,
            "small_images": small_images,
            "skip_damaged": skip_damaged,
            "image_column": image_column,
            "label_column": label_column,
            "config_name": config_name,
        }
        real = held_out_images(
            data, split=split, n=n, most=plan.images, seed=seed, extractor=extractor, device=compute.device, **settings
        )
        settle(pipeline, real.store.channels)
        count = len(real.images)
        # Of fewer, some resample would hold none, and shares of no power aren't defined.
        if (detailed := int((real.spectrum.high > 0).sum())) < _FEWEST:
            raise DataError(
                f"data: {detailed} of the {count} images have power above .25 cycles/pixel, and a diagnosis needs "
                f"{_FEWEST} such; use images that aren't flat"
            )
        facts = {
            "schema": DIAGNOSIS.version,
            "model": {
                "id": given_id(model),
                "family": pipeline.family,
                "parameters": pipeline.parameter_count,
                **origin.facts(),
            },
            "data": {
                "id": str(data),
                "split": real.store.split,
                "n": count,
                "fingerprint": real.store.fingerprint,
                "resolution": pipeline.sample_size,
                "channels": real.store.channels,
            },
            "protocol": {
                "seed": seed,
                "budget": {"name": budget, **BUDGETS[budget]._asdict()},
                "refits": plan.refits,
                "extractor": real.extractor.facts(),
                "versions": versions(),
                **compute.facts(),
            },
        }

        @cache
        def training() -> Tensor:
            store = open_store(data, split="train", **{**settings, "channels": real.store.channels})
            most = max(_FEWEST, min(_MOST_TRAINING, _TRAINING_PIXELS // real.images[0].numel(), len(store)))
            return store.gather(batch_indices(len(store), 0, min(most, len(store)), seed))[:, : store.channels]

        clock = announce(pipeline, plan, BUDGETS[budget], real.inputs)
        if (seams := seams_of(pipeline, real.images[:_SEAM_IMAGES])) is not None:
            facts["tiles"] = seams
        with workspace(out, {**facts, "weights": origin.state}) as partial_results:
            work = pipeline, real.inputs, training, BUDGETS[budget], seed, partial_results
            chain = make_stages(*work, refits=plan.refits, clock=clock, model=given_id(model))
            chain.notes.extend(leak_notes(origin, data, real.store.split, settings, real))
            document = {**facts, **describe(pipeline, real, chain, training, facts, exact)}
            if other is not None:
                document["against"] = compare(document, other)
            _write(document, real, chain, out)
        return document


def _write(document: dict[str, Any], real: HeldOut, chain: Chain, out: Path) -> None:
    """The pictures and the page, then the document that names them."""
    for name in ("waterfall.png", "missing.png"):
        (out / name).unlink(missing_ok=True)
    figure = encode_picture(waterfall(document)) if document["causes"] else None
    if figure is not None:
        write_bytes(out / "waterfall.png", figure)
    if document["variety"] and document["variety"]["missing"]:
        write_png(out / "missing.png", missing_gallery(document, real.images))
    write_text(out / "report.html", render(document, real.images, chain.stages, real.window))
    DIAGNOSIS.write(out / "diagnosis.json", document)


def _side(model: Any, against: Any, compute: Compute, variant: str | None) -> int:
    """Of the images of a model that nobody chose a size for.

    Raises:
        SettingsError: the other model doesn't take it.
    """
    with opened(model, compute, variant=variant) as (pipeline, _):
        side, any_size = pipeline.sample_size, pipeline.any_size
    with opened(against, compute, variant=variant) as (pipeline, _):
        other = pipeline.sample_size
        if other != side and not pipeline.any_size:
            remedy = f"give --resolution {other}" if any_size else "compare models of one size"
            raise SettingsError(f"against: its images have {other} pixels, and this model's {side}; {remedy}")
    return side
