"""An evaluator's numbers as metrics of torchmetrics, and every so many steps of a Trainer: the same values."""

import pickle
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import hfgen
from hfgen.errors import DataError, SettingsError, UserError
from hfgen.images import to_float

N, SIDE = 48, 16


@pytest.fixture(scope="module")
def evaluator(glyph_folder: Path) -> hfgen.Evaluator:
    """Of grey glyphs, judged by pixels and spectra."""
    return hfgen.Evaluator(str(glyph_folder), resolution=SIDE, n=N, device="cpu", extractor="pixels")


def shrunk(images: Tensor) -> Tensor:
    return 0.8 * images


def values(found: Any) -> dict[str, float]:
    return {name: float(value) for name, value in found.items()}


def test_samples_in_batches_give_the_evaluators_values(evaluator: hfgen.Evaluator):
    images = evaluator._real.others[:N]
    whole, halves = hfgen.SamplesMetric(evaluator), [hfgen.SamplesMetric(evaluator) for _ in range(2)]
    whole.update(images[:20])
    whole.update(to_float(images[20:]))
    assert values(whole.compute()) == evaluator.samples(images).values_only
    assert whole.estimates() == evaluator.samples(images)
    for half, part in zip(halves, (images[:30], images[30:]), strict=True):
        half.update(part)
    halves[1].merge_state(halves[0])
    joined = torch.cat([images[:30], images[30:]])
    assert values(halves[1].compute()) == evaluator.samples(joined).values_only
    whole.reset()
    with pytest.raises(SettingsError, match="update: no image was given yet"):
        whole.estimates()
    whole.update(images[:5])
    with pytest.raises(DataError, match="samples: 5 images, and the fewest to measure are 12"):
        whole.compute()


def test_pairs_in_batches_give_the_evaluators_values(evaluator: hfgen.Evaluator):
    images, expected = to_float(evaluator.images), evaluator.reconstructions(shrunk)
    metric = pickle.loads(pickle.dumps(hfgen.ReconstructionsMetric(evaluator)))
    for part in images.split(17):
        metric.update(shrunk(part), part)
    assert metric.estimates() == expected and values(metric.compute()) == expected.values_only
    assert expected["gain_high"].value == pytest.approx(1.25, abs=0.01)
    with pytest.raises(UserError, match="reconstructions: 3 of 4 images"):
        metric.update(images[:3], images[:4])


def test_pairs_have_a_range_of_their_own_or_it_is_said(evaluator: hfgen.Evaluator, caplog: pytest.LogCaptureFixture):
    images, expected = to_float(evaluator.images), evaluator.reconstructions(shrunk)
    metric = hfgen.ReconstructionsMetric(evaluator, values="unit")
    metric.update((shrunk(images) + 1) / 2, evaluator.images.float() / 255)
    assert metric.estimates() == expected and not caplog.records
    evaluator._said.clear()
    metric = hfgen.ReconstructionsMetric(evaluator)
    metric.update((shrunk(images) + 1) / 2, evaluator.images.float() / 255)
    for name in ("reconstructions", "originals"):
        line = f"{name}: no float is negative; they are taken to be in [-1, 1], give values='unit' if not"
        assert [record.message for record in caplog.records].count(line) == 1
    caplog.clear()
    metric = hfgen.ReconstructionsMetric(evaluator, values="unit")
    for _ in range(2):
        metric.update(images.clamp(min=-0.2), evaluator.images)
        assert not caplog.records
    for _ in range(2):
        metric.update(images, evaluator.images)
    line = "reconstructions: floats below 0 are clipped to 0; give values='signed' if they are in [-1, 1]"
    assert [record.message for record in caplog.records] == [line]
    with pytest.raises(SettingsError, match="values: 'auto' is unknown; give signed or unit"):
        hfgen.ReconstructionsMetric(evaluator, values="auto").update(images, images)  # type: ignore[arg-type]
    metric.reset()
    metric.update(images[:1], images[:1])
    with pytest.raises(DataError, match="reconstructions: 1 pair, and the fewest to measure are 2"):
        metric.compute()


def test_samples_keep_the_range_of_their_first_batch(evaluator: hfgen.Evaluator):
    images = to_float(evaluator._real.others[:N])
    images[32:] = images[32:].clamp(min=0)
    metric = hfgen.SamplesMetric(evaluator)
    for part in images.split(16):
        metric.update(part)
    assert metric.estimates() == evaluator.samples(images, values="signed")
    unit = evaluator._real.others[:N].float() / 255
    metric = hfgen.SamplesMetric(evaluator)
    for part in unit.split(16):
        metric.update(part)
    assert metric.estimates() == evaluator.samples(unit)
    with pytest.raises(DataError, match=r"samples: floats below 0 after images without; give SamplesMetric values"):
        metric.update(images[:16])
    stated = hfgen.SamplesMetric(evaluator, values="signed")
    stated.update(images[32:])
    stated.update(images[:32])
    assert stated.estimates() == evaluator.samples(torch.cat([images[32:], images[:32]]), values="signed")


def test_processes_are_joined(evaluator: hfgen.Evaluator):
    """torchmetrics gathers each state and concatenates: as two processes, by its own hook."""
    images = evaluator._real.others[:N]
    other = hfgen.SamplesMetric(evaluator)
    other.update(images[24:])
    names = list(other._defaults)
    gathered = iter([torch.cat(getattr(other, name)) for name in names])
    metric = hfgen.SamplesMetric(
        evaluator, dist_sync_fn=lambda state, group: [state, next(gathered)], distributed_available_fn=lambda: True
    )
    metric.update(images[:24])
    assert values(metric.compute()) == evaluator.samples(images).values_only


def test_ranges_that_two_processes_guessed_otherwise_are_refused(evaluator: hfgen.Evaluator):
    images = to_float(evaluator._real.others[:N])
    dark, light = hfgen.SamplesMetric(evaluator), hfgen.SamplesMetric(evaluator)
    dark.update(images[:24])
    light.update(images[24:].clamp(min=0))
    assert light.compute()["kid"].isfinite()
    dark.merge_state(light)
    with pytest.raises(DataError, match=r"for \[0, 1\] in one process and for \[-1, 1\] in another; give .* values="):
        dark.compute()


def test_without_torchmetrics_the_remedy_is_said(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "torchmetrics", None)
    monkeypatch.delitem(sys.modules, hfgen.SamplesMetric.__module__)
    with pytest.raises(SettingsError, match=r"torchmetrics: .*pip install .*, or call hfgen.Evaluator itself"):
        _ = hfgen.SamplesMetric


def test_a_trainers_log_has_the_values_at_every_other_step(evaluator: hfgen.Evaluator, tmp_path: Path):
    from transformers import Trainer, TrainingArguments

    class Scale(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = torch.nn.Parameter(torch.tensor(0.5))

        def forward(self, images: Tensor) -> dict[str, Tensor]:
            return {"loss": (self.scale * images - images).square().mean()}

    told: list[tuple[int, dict[str, float]]] = []
    callback = hfgen.EvaluatorCallback(
        evaluator,
        every=2,
        made=lambda model: lambda x: model.scale * x,
        log=lambda found, step: told.append((step, found)),
    )
    arguments = TrainingArguments(
        str(tmp_path), max_steps=4, report_to=[], use_cpu=True, disable_tqdm=True, save_strategy="no"
    )
    data = [{"images": image} for image in to_float(evaluator.images)]
    trainer = Trainer(Scale(), arguments, train_dataset=data, callbacks=[callback])
    trainer.train()
    assert [step for step, _ in callback.history] == [step for step, _ in told] == [2, 4]
    logged = [entry for entry in trainer.state.log_history if "hfgen/psnr" in entry]
    assert [entry["step"] for entry in logged] == [2, 4]
    expected = evaluator.reconstructions(lambda x: trainer.model.scale * x).values_only
    assert told[1][1] == {f"hfgen/{name}": value for name, value in expected.items()}
    for every, words in (
        (0, "every: 0 steps"),
        ("100", "every: '100' isn't an integer"),
        (2.5, "every: 2.5 isn't an"),
        (None, "every: None isn't an"),
    ):
        with pytest.raises(SettingsError, match=words):
            hfgen.EvaluatorCallback(evaluator, every=every)  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="evaluator: a str measures nothing"):
        hfgen.EvaluatorCallback("glyphs")  # type: ignore[arg-type]
    assert callback(5, trainer.model) is None and callback(6, trainer.model)["psnr"].value == expected["psnr"]
