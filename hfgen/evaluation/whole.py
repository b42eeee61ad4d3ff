"""Images of their own shapes, neither cropped nor resized, through an autoencoder, and measured one by one."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hfgen import metrics
from hfgen.autoencoders.sizes import reconstruct_any_size
from hfgen.data import Data, split_size, whole_images
from hfgen.data.splits import ALL
from hfgen.devices import Compute
from hfgen.documents import WHOLE, versions
from hfgen.errors import DataError, SettingsError
from hfgen.evaluation.dataset import write_dataset
from hfgen.evaluation.held_out import EMBEDDED, Choice
from hfgen.evaluation.pair_metrics import Pairs, add_colour, add_scores
from hfgen.evaluation.result import Evaluation, check_out, without_images
from hfgen.evaluation.shared_work import Processes, Task
from hfgen.evaluation.trained_on import leak_notes
from hfgen.evaluation.workspace import scratch
from hfgen.files import write_text
from hfgen.images import to_float, to_pil, to_uint8
from hfgen.metrics import BandMeasures, Collector, PowerSpectrum
from hfgen.metrics.spectrum import Window, spectral_window
from hfgen.pipelines import ImagePipeline
from hfgen.pipelines.autoencoder import codec_of, seams_of
from hfgen.pipelines.finite import check_images, counted, finite_outputs
from hfgen.pipelines.given import Origin, model_facts
from hfgen.setting_bounds import whole_number

_FEWEST, _MOST = 2, 2000
_SMALLEST, _MS_SSIM_SIDE = 16, 176
_LEFT_OUT = (
    "crop none: left out, since images of different sizes have no common features, bands or latents: kid, fd, "
    "perceptual, psnr_linear, reading_height, chroma by band, spectrum, latent, precision, baseline"
)
_PARTS = ("low", "middle", "high")


@dataclasses.dataclass(frozen=True, repr=False)
class WholeEvaluation(Evaluation):
    """What was measured of one model on images of their own shapes: the same without features and samples.

    Attributes:
        record: whole.json; see hfgen/schemas.
        originals: uint8 (C, H, W), each of its own shape.
        reconstructions: Theirs.
    """

    originals: list[Tensor]  # type: ignore[assignment]
    reconstructions: list[Tensor]  # type: ignore[assignment]

    def _repr_html_(self) -> str:
        return without_images(self.record)._repr_html_()

    def save(self, folder: str | Path) -> Path:
        """Write `folder`/whole.json and `folder`/dataset/ (`load_dataset` reads it); returns the folder.

        Raises:
            SettingsError: it holds the record of another model or other data.
        """
        out = Path(folder)
        check_out(out, self.record, "whole.json")
        pictures = {"original": self.originals, "reconstruction": self.reconstructions}
        columns = {name: [to_pil(image[None])[0] for image in images] for name, images in pictures.items()}
        card = f"# {self.record['model']['id']} on {self.record['data']['id']}\n\n```\n{self!r}\n```\n"

        def add(home: Path) -> None:
            WHOLE.write(home / "whole.json", self.record)
            write_text(home / "README.md", card)

        write_dataset({**columns, **self.columns}, out / "dataset", None, add)
        WHOLE.write(out / "whole.json", self.record)
        return out


def whole_evaluation(
    record: dict[str, Any], originals: list[Tensor], reconstructions: list[Tensor], columns: dict[str, Tensor]
) -> WholeEvaluation:
    return WholeEvaluation(record, originals, None, reconstructions, None, [], columns=columns)


def whole_task(pipeline: ImagePipeline) -> dict[str, Task]:
    """What reconstructs one image, uint8 (C, H, W), by name."""

    @torch.no_grad()
    def whole(image: Tensor, index: int) -> Tensor:
        codec = codec_of(pipeline)
        assert codec is not None, "checked before"
        with counted("held-out image", index), finite_outputs(pipeline):
            (made,) = reconstruct_any_size(codec, [to_float(image[None])[0].to(pipeline.device)])
            check_images(made[None])
        return to_uint8(made).cpu()

    return {"whole": whole}


def check_whole(pipeline: ImagePipeline, model: str, choice: Choice, resolution: int | None) -> None:
    """Refuse what can't be done with images of their own shapes.

    Raises:
        SettingsError: the model has one size, or a setting says one; an extractor is named; or `n` is no integer.
    """
    if choice.n is not None:
        whole_number("n", choice.n)
    if codec_of(pipeline) is None or not pipeline.any_size:
        raise SettingsError(f"crop: {model} takes images of {pipeline.sample_size} pixels only; use center")
    if resolution is not None:
        raise SettingsError("resolution: images keep their own shapes with --crop none; leave one of them out")
    if choice.extractor != EMBEDDED:
        raise SettingsError(f"extractor: {choice.extractor}, but --crop none compares no features; leave it out")


def evaluate_whole(
    model: Any,
    data: Data,
    pipeline: ImagePipeline,
    origin: Origin,
    choice: Choice,
    compute: Compute,
    out: Path | None,
    processes: Processes | None = None,
) -> WholeEvaluation:
    """Measure pairs of whole images; see `hfgen.evaluate`.

    Raises:
        UserError: too few images, one that is too small, or the model gives NaN or infinity.
    """
    served, there = split_size(data, choice.split, config_name=choice.config_name)
    if there < _FEWEST or (choice.n is not None and not _FEWEST <= choice.n <= there):
        raise SettingsError(f"n: {choice.n or there} of {there} images in {data}; give {_FEWEST} to {there}")
    found = whole_images(
        data,
        split=choice.split,
        n=choice.n or min(_MOST, there),
        seed=choice.seed,
        channels=pipeline.channels,
        skip_damaged=choice.skip_damaged,
        image_column=choice.image_column,
        config_name=choice.config_name,
        keep=_kept,
    )
    originals = found.images
    if (small := next((image for image in originals if min(image.shape[1:]) < _SMALLEST), None)) is not None:
        size = " x ".join(map(str, small.shape[1:]))
        raise DataError(f"data: an image of {size} pixels is too small for a spectrum; use {_SMALLEST} or more a side")
    split = ALL if choice.split == ALL else served
    record = _facts(model, data, pipeline, origin, choice, compute, split, originals)
    check_out(out, record, "whole.json")
    if (seams := seams_of(pipeline, originals[0][None])) is not None:
        record["tiles"] = seams
    leaks = leak_notes(origin, data, split, choice._asdict())
    if split in ("train", ALL):
        leaks.append(f"split {split}: these images aren't held out; models may be trained on them")
    measured, told = Collector(), [*found.notes, *leaks, _LEFT_OUT]
    reconstructions = _reconstructed(pipeline, originals, processes)
    pairs = Pairs()
    _measure(measured, pairs, originals, reconstructions, choice.seed)
    numbers = {name: estimate.as_dict() for name, estimate in sorted(measured.estimates.items())}
    complete = {**record, "metrics": numbers, "notes": [*told, *measured.notes]}
    evaluation = whole_evaluation(complete, originals, reconstructions, pairs.columns)
    if out is not None:
        evaluation.save(out)
    return evaluation


def _kept(image: Tensor) -> Tensor:
    """The same in a file that vanishes with it: many photographs don't fit into the memory."""
    stored = scratch(tuple(image.shape))
    return stored.copy_(image)


def _facts(
    model: Any,
    data: Data,
    pipeline: ImagePipeline,
    origin: Origin,
    choice: Choice,
    compute: Compute,
    split: str,
    originals: Sequence[Tensor],
) -> dict[str, Any]:
    shapes = Counter(f"{image.shape[2]}x{image.shape[1]}" for image in originals)
    return {
        "schema": WHOLE.version,
        "model": model_facts(model, pipeline, origin),
        "data": {
            "id": str(data),
            "split": split,
            "n": len(originals),
            "channels": pipeline.channels,
            "shapes": dict(sorted(shapes.items())),
        },
        "protocol": {
            "crop": "none",
            "seed": choice.seed,
            "versions": versions(),
            **compute.facts(),
        },
    }


def _reconstructed(pipeline: ImagePipeline, originals: list[Tensor], processes: Processes | None) -> list[Tensor]:
    work, at_once = whole_task(pipeline)["whole"], 1 if processes is None else processes.count
    made: list[Tensor] = []
    for first in range(0, len(originals), at_once):
        arguments = [(originals[index], index) for index in range(first, min(first + at_once, len(originals)))]
        done = [work(*each) for each in arguments] if processes is None else processes.run("whole", arguments)
        made += map(_kept, done)
    return made


def _measure(found: Collector, pairs: Pairs, real: list[Tensor], made: list[Tensor], seed: int) -> None:
    def each(score: Callable[[Tensor, Tensor], Tensor]) -> Callable[[], Tensor]:
        return lambda: torch.cat([score(x[None], r[None]) for x, r in zip(real, made, strict=True)])

    scores = {"psnr": each(metrics.capped_psnr), "ssim": each(partial(metrics.ssim, data_range=255))}
    if all(min(image.shape[1:]) >= _MS_SSIM_SIDE for image in real):
        scores["ms_ssim"] = each(partial(metrics.ms_ssim, data_range=255))
    scores["clipped"] = each(metrics.clipped)
    for name in metrics.learned_distances(real[0][None], made[0][None], found):
        scores[name] = each(partial(_learned, name))
    add_scores(found, pairs, scores, seed)
    if real[0].shape[0] == 3:
        add_colour(found, pairs, lambda: _by_name(metrics.colour_errors, real, made), seed)
    _sharpness(found, real, made, seed)
    _bands(found, real, made, seed)


def _learned(name: str, real: Tensor, made: Tensor) -> Tensor:
    return metrics.learned_distances(real, made, Collector())[name]()


def _by_name(
    measure: Callable[[Tensor, Tensor], dict[str, Tensor]], real: list[Tensor], made: list[Tensor]
) -> dict[str, Tensor]:
    parts = [measure(x[None], r[None]) for x, r in zip(real, made, strict=True)]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _sharpness(found: Collector, real: list[Tensor], made: list[Tensor], seed: int) -> None:
    scores = [_by_name(lambda x, r: metrics.sharpness(x), images, images) for images in (made, real)]
    for name, values in scores[0].items():
        ratio = partial(metrics.bootstrap_ratio, values, scores[1][name], seed=seed, paired=True)
        found.add(f"{name}_ratio_reconstruction", ratio)


def _bands(found: Collector, real: list[Tensor], made: list[Tensor], seed: int) -> None:
    """Powers are means over an image's frequencies, so that images count alike, whatever their sizes."""
    windows = {spectral_window(image[None]) for image in real}
    window: Window = "hann" if "hann" in windows else "none"
    parts = [metrics.band_measures(x[None], r[None], window) for x, r in zip(real, made, strict=True)]
    measures = BandMeasures(*(_joined([getattr(part, name) for part in parts]) for name in _SPECTRA))
    power = measures.reconstruction.high, measures.real.high
    found.add("hf_ratio_reconstruction", lambda: metrics.bootstrap_ratio(*power, seed=seed, paired=True))

    def high() -> dict[str, metrics.Estimate]:
        band = measures.estimates(seed=seed)["high"]
        return {"gain_high": band.gain, "coherence_high": band.coherence}

    found.add("gain_high, coherence_high", high)
    missing = measures.real.high - measures.reconstruction.high, measures.error.high
    found.add("averaging_identity", lambda: metrics.bootstrap_ratio(*missing, seed=seed, paired=True))


_SPECTRA = ("real", "reconstruction", "error", "product")


def _joined(spectra: list[PowerSpectrum]) -> PowerSpectrum:
    return metrics.bands_alone(*(torch.cat([getattr(spectrum, name) for spectrum in spectra]) for name in _PARTS))
