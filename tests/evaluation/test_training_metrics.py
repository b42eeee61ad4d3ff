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
    with pytest.raises(SettingsError, match="every: 0 steps"):
        hfgen.EvaluatorCallback(evaluator, every=0)
    assert callback(5, trainer.model) is None and callback(6, trainer.model)["psnr"].value == expected["psnr"]
