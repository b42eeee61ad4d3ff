"""The table of planted faults counts what it should; that the plants are found is what its run shows."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from hfgen.configs import load_config

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    from benchmarks import faults

    return faults


def named(faults, fault: str, *causes: str, excluded: bool = False):
    return faults.Named("glyphs", fault, 0, faults.FAULTS[fault], list(causes), 1.0, excluded)


def test_an_honest_unknown_counts_half_and_a_pair_needs_both(faults):
    assert named(faults, "mirror", "flipped").score == 1
    assert named(faults, "mirror", "unexplained", "flipped").score == 0.5
    assert named(faults, "mirror", "shifted", "flipped").score == 0
    pair = named(faults, "contrast + shift", "shifted", "range", "contrast")
    assert pair.within(3) and not pair.within(2)


@pytest.mark.parametrize(
    ("rows", "missed"),
    [
        ([("mirror", "flipped")] * 9 + [("mirror", "shifted")], False),
        ([("mirror", "flipped")] * 8 + [("mirror", "shifted")] * 2, True),
        ([("mirror", "flipped")] * 8 + [("mirror", "unknown")] * 2, False),
        ([("noise + shift", "shifted", "white_noise")] * 4 + [("noise + shift", "shifted")], False),
        ([("noise + shift", "shifted", "white_noise")] * 3 + [("noise + shift", "shifted")] * 2, True),
        ([("healthy VAE", "sharp"), ("healthy VAE", "prior")], True),
    ],
)
def test_the_bars_decide_the_exit_code(faults, capsys, rows: list[tuple[str, ...]], missed: bool):
    assert faults._summary([named(faults, *row) for row in rows]) == missed
    assert ("missed: " in capsys.readouterr().out) == missed


def test_what_is_not_healthy_by_its_numbers_is_not_counted(faults, capsys):
    assert not faults._summary(
        [named(faults, "healthy VAE", "sharp"), named(faults, "healthy VAE", "prior", excluded=True)]
    )
    assert "called ill: 0 of 1" in capsys.readouterr().out
    good = {"chain": [{"stage": "mean", "psnr": {"value": 30.0}}], "baseline": {}}
    poor = {"chain": [{"stage": "mean", "psnr": {"value": 20.0}}], "baseline": {}}
    assert faults._is_ill(good) == "" and "20.0 dB" in faults._is_ill(poor)


def test_every_fault_stands_in_a_model_that_is_trained_and_changes_its_images(faults):
    from benchmarks.fault_models import TRAINED

    assert {fault.model for fault in faults.FAULTS.values()} <= TRAINED.keys()
    assert sum(fault.pair for fault in faults.FAULTS.values()) >= 6
    images = torch.rand((2, 3, 16, 16)) * 2 - 1
    for name, fault in faults.FAULTS.items():
        if fault.after is not None:
            assert torch.equal(fault.after(images), images) == fault.healthy, name


def test_every_model_can_be_built(faults):
    from benchmarks.fault_models import TRAINED, Recipe

    for recipe in TRAINED.values():
        if isinstance(recipe, Recipe):
            for channels in (1, 3):
                settings = recipe.settings_for(channels)
                model = load_config(f"{recipe.name}-glyphs", ["--resolution=16", *settings]).model
                assert model.build(16, channels, 10)


def test_what_is_planted_is_kept_and_not_made_again(faults, tmp_path: Path, monkeypatch):
    from benchmarks import fault_models, fault_plants

    taught = []

    def train(job: object, out: Path) -> None:
        taught.append(out.name)
        (out / "pretrained").mkdir(parents=True)

    monkeypatch.setitem(fault_models.TRAINED, "VAE", SimpleNamespace(train=train))
    job = fault_models.Job(tmp_path, tmp_path / "models", 100, 3)
    assert fault_plants.Fault(("sharp",)).load(job, tmp_path / "x") == fault_models.trained("VAE", job)
    fault_models.trained("VAE", job._replace(recipe=True))
    assert taught == ["VAE-3", "VAE (recipe)-3"]
