"""MODEL and DATA -> diagnosis.json, report.html, waterfall.png and the advice in words."""

from __future__ import annotations

import logging
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from hfgen import metrics
from hfgen.data import batch_indices, open_store
from hfgen.data_options import SmallImages
from hfgen.devices import choose
from hfgen.diagnosis.against import compare
from hfgen.diagnosis.budgets import BUDGETS
from hfgen.diagnosis.chain import Chain, make_stages
from hfgen.diagnosis.description import describe
from hfgen.diagnosis.figure import missing_gallery, waterfall
from hfgen.diagnosis.plan import announce, make_plan
from hfgen.diagnosis.verdict_page import render
from hfgen.documents import DIAGNOSIS
from hfgen.errors import DataError, SettingsError
from hfgen.evaluation.held_out import HeldOut, choose_n, held_out_images
from hfgen.evaluation.workspace import workspace
from hfgen.files import folder_state, write_bytes, write_text
from hfgen.images import write_png
from hfgen.pipelines.loading import open_model
from hfgen.reporting.charts import encode as encode_picture

_MOST_TRAINING, _TRAINING_PIXELS = 4096, 2**26
_FEWEST = 20

logger = logging.getLogger("hfgen")


def diagnose(
    model: str | Path,
    data: str,
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
    variant: str | None = None,
    refits: bool | None = None,
    against: str | Path | None = None,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
) -> dict[str, Any]:
    """Find out why a model's images are blurred, or that they aren't; writes into `out` and returns the document.

    Interrupted, the same call continues with the steps that `out` holds. The refits learn from DATA's train split;
    nothing else of the model's training is needed. Arguments of `hfgen.evaluation.evaluate.evaluate` mean the same.

    Args:
        model: Whatever `hfgen.load` opens.
        data: Images like those that it was trained on.
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
        variant: See `hfgen.load`.
        refits: Whether copies of the network are trained and latents optimised; None: of a model below 20 million
            parameters and 256 pixels. Of a larger one, at most 32 images are looked at by default.
        against: Another model, diagnosed on the same images into `out`/against: `against` says why they differ.
        device: See `evaluate`.
        dtype: See `evaluate`; refits are fp32, and one stage is bf16 anyway.

    Raises:
        UserError: the model, the data or the extractor can't be loaded, an unknown budget, too few images, or images
            without detail.
    """
    out = Path(out)
    if budget not in BUDGETS:
        raise SettingsError(f"budget: {budget!r} is unknown; choose {' or '.join(BUDGETS)}")
    other = None
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
            resolution=resolution,
            variant=variant,
            refits=refits,
            device=device,
            dtype=dtype,
        )
    compute = choose(device, dtype)
    choose_n(data, split, n, fewest=_FEWEST, extractor=extractor, config_name=config_name)
    pipeline, folder = open_model(model, variant=variant, resolution=resolution)
    pipeline = compute.place(pipeline)
    pipeline.set_progress_bar_config(disable=True)
    plan = make_plan(pipeline, BUDGETS[budget], refits)
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
            data, split=split, n=n, most=plan.images, seed=seed, extractor=extractor, device=compute.device, **settings
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
                "refits": plan.refits,
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

        logger.info(announce(pipeline, plan, BUDGETS[budget], real.inputs))
        with workspace(out, {**facts, "weights": folder_state(folder)}) as partial_results:
            chain = make_stages(
                pipeline, real.inputs, training, BUDGETS[budget], seed, partial_results, refits=plan.refits
            )
            document = {**facts, **describe(pipeline, real, chain, training, facts)}
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
    write_text(out / "report.html", render(document, real.images, chain.stages, real.window, figure))
    DIAGNOSIS.write(out / "diagnosis.json", document)
