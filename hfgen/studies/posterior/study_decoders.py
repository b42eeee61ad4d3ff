"""`hfgen study decoders`: do L2 decoders of a frozen latent reach E[x | z], and after how much? -> decoders.json."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from filelock import FileLock
from torch import Tensor, nn

from hfgen.devices import choose
from hfgen.documents import DECODERS, versions
from hfgen.errors import SettingsError
from hfgen.files import folder_state, write_bytes
from hfgen.metrics import Estimate, bootstrap_mean
from hfgen.reporting.charts import encode, ink, new_axes, palette, theme
from hfgen.reporting.exact_answers import slug
from hfgen.studies.posterior.answer_figure import sheet_of_decoders
from hfgen.studies.posterior.decoder_training import BATCH, train_decoder
from hfgen.studies.posterior.encoders import GaussianEncoder
from hfgen.studies.posterior.exact_answer import Answer, latent_of
from hfgen.studies.posterior.shares import measures
from hfgen.studies.posterior.study_posterior import answer_model, named_folder

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Changes whenever the same settings give other decoders.
_VERSION = 1
_SHOWN = ("psnr_decoder", "power_decoder", "share_decoder")


class Budget(NamedTuple):
    """`n` held-out images that are answered, widths of decoders, and the images seen after which each is measured."""

    n: int
    widths: tuple[int, ...]
    milestones: tuple[int, ...]


BUDGETS = {
    "smoke": Budget(2, (16,), (2 * BATCH, 4 * BATCH)),
    "full": Budget(60, (16, 32, 64), (16_000, 64_000, 256_000, 1_024_000)),
}


def study_decoders(
    models: Sequence[str],
    out: Path,
    *,
    budget: str = "full",
    n: int | None = None,
    images: int | None = None,
    widths: Sequence[int] | None = None,
    seed: int = 0,
    device: str = "auto",
    dtype: str = "auto",
) -> dict[str, Any]:
    """Train L2 decoders on each model's frozen latents, and write decoders.json and figures/ into `out`.

    Glyphs are drawn without end, so that no image is seen twice, and a decoder's distance from E[x | z] isn't one of
    finite data. E[x | z] is that of `hfgen study posterior` with the same `out`. Trained decoders and answers are
    files there; a repeated call makes what is missing, and one with more `images` goes on.

    `images`: most images that a decoder sees; the budget's later milestones are left out. `widths`: channels of the
    decoders at full size, in place of the budget's.

    Raises:
        UserError: no model is given, or one can't be loaded or has no Gaussian posterior; too few images.
    """
    if budget not in BUDGETS:
        raise SettingsError(f"budget: {budget!r} is none; choose {' or '.join(BUDGETS)}")
    if not models:
        raise SettingsError("model: decoders are trained on a model's latents; name one behind decoders")
    widths, milestones = widths or BUDGETS[budget].widths, BUDGETS[budget].milestones
    n = BUDGETS[budget].n if n is None else n
    if images is not None and images < milestones[0]:
        raise SettingsError(f"images: {images} are less than the first milestone; give {milestones[0]} or more")
    milestones = tuple(one for one in milestones if images is None or one <= images)
    compute = choose(device, dtype)
    document: dict[str, Any] = {
        "schema": DECODERS.version,
        "budget": {"name": budget, "n": n, "images": milestones[-1]},
        "seed": seed,
        "versions": versions(),
        "models": [],
    }
    for model in models:
        channel, folder, answers = answer_model(model, model, out, budget, n, seed, compute)
        encoder = channel.encoder
        if not isinstance(encoder, GaussianEncoder):
            raise SettingsError(f"model: {model} has codes; decoders are trained on the latents of a VAE")
        latents = torch.stack([latent_of(channel, index, seed) for index in range(n)])
        facts = {"version": _VERSION, "weights": folder_state(folder), "seed": seed}
        reference = {name: one.as_dict() for name, one in measures(answers).items()}
        converged = sum(bool(one.numbers["converged"]) for one in answers)
        about = {"name": model, "id": model, "resolution": channel.resolution, "n": n, "converged": converged}
        rows: list[dict[str, Any]] = []
        document["models"].append({**about, "reference": reference, "decoders": rows})
        pictures = {}
        for width in widths:
            place = named_folder(out / "decoders", model, {**facts, "width": width})
            place.mkdir(parents=True, exist_ok=True)
            with FileLock(place / ".lock"):
                for seen, decoder in train_decoder(encoder, channel.resolution, width, milestones, seed, place):
                    decoded = _decoded(decoder, encoder, latents)
                    found = measured(answers, decoded)
                    parameters = sum(one.numel() for one in decoder.parameters())
                    rows.append({"width": width, "parameters": parameters, "images_seen": seen, "metrics": found})
                    # What was found stays, whatever ends the call.
                    DECODERS.write(out / "decoders.json", document)
            pictures[f"width {width}, {seen:,} fresh images"] = decoded
        write_bytes(out / "figures" / f"{slug(model)}-decoders-images.png", sheet_of_decoders(answers, pictures))
    for entry in document["models"]:
        with theme("light"):
            write_bytes(out / "figures" / f"{slug(entry['name'])}-decoders.png", encode(draw(entry)))
    return document


def measured(answers: Sequence[Answer], decoded: Tensor) -> dict[str, Any]:
    """Of images (N, 1, R, R) in [0, 1], decoded from the answers' latents.

    PSNR, power and the share of the missing power as in `measures`; `error_to_mean` is the mean squared error against
    E[x | z], of pixels in [0, 1], by the product of the differences from its two independent estimates.
    """
    found = measures([dataclasses.replace(one, decoded=image) for one, image in zip(answers, decoded, strict=True)])
    means = torch.stack([one.means for one in answers]).double()
    differences = decoded.double() - means
    errors = differences.prod(1).flatten(1).mean(1)
    chosen: dict[str, Estimate] = {name: found[name] for name in _SHOWN}
    chosen["error_to_mean"] = bootstrap_mean(errors, seed=0)
    return {name: one.as_dict() for name, one in chosen.items()}


def draw(model: dict[str, Any]) -> Figure:
    """PSNR and power of decoders of each width against the images they saw, and those of E[x | z] as lines."""
    figure, axes = new_axes(2, width=3.8, height=3.2)
    kinds = {"psnr": "PSNR, dB", "power": "power above .25 cycles/pixel, of real"}
    for part, (kind, label) in zip(axes, kinds.items(), strict=True):
        for place, width in enumerate(sorted({row["width"] for row in model["decoders"]})):
            rows = [row for row in model["decoders"] if row["width"] == width]
            found = [row["metrics"][f"{kind}_decoder"] for row in rows]
            colour, marker = palette(place)
            seen = [row["images_seen"] for row in rows]
            part.plot(seen, [one["value"] for one in found], marker=marker, color=colour, label=f"width {width}")
            part.fill_between(
                seen, [one["low"] for one in found], [one["high"] for one in found], color=colour, alpha=0.2, lw=0
            )
        mean = model["reference"][f"{kind}_mean"]
        part.axhline(mean["value"], color=ink(), lw=1, ls="--", label="E[x | z]")
        part.set_xscale("log")
        part.set_xlabel("fresh images seen")
        part.set_ylabel(label)
    axes[0].legend(frameon=False, fontsize=8)
    return figure


@torch.no_grad()
def _decoded(decoder: nn.Module, encoder: GaussianEncoder, latents: Tensor) -> Tensor:
    shaped = latents.float().unflatten(1, encoder.latent_shape).to(encoder.pipeline.device)
    return decoder(shaped).float().cpu().add(1).div(2).clamp(0, 1)
