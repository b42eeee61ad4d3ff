"""The quality table: its peers do what they are said to do, its judge sees, and its bars follow the intervals."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import benchmark

from hfgen.data import draw
from hfgen.errors import UserError
from hfgen.files import read_json
from hfgen.metrics import Estimate, kernel_distance_interval, prdc


def _around(value: float, reach: float) -> Estimate:
    return Estimate(value, value - reach, value + reach, 100)


def test_the_independent_judge_sees_blur_and_noise_and_no_difference_where_there_is_none(scripts, tmp_path: Path):
    from benchmarks.independent_judge import IndependentJudge

    from hfgen.metrics.judge_power import blurred, noisy

    drawn = draw("glyphs", "test", 0, 900, 16)
    seen, reference, others = drawn.images.split(300)
    judge = IndependentJudge(seen, drawn.labels[:300], 36, tmp_path, steps=150)
    again = IndependentJudge(seen, drawn.labels[:300], 36, tmp_path, steps=150)
    own = judge.features(reference)
    assert own.shape == (300, 64) and torch.equal(own, again.features(reference)) and judge.sha256 == again.sha256
    known = judge.features(seen)
    # No component outweighs the others.
    assert float(known.mean(0).abs().max()) < 0.05 and float(known.std(0).max()) < 1.05

    def z(images: torch.Tensor) -> float:
        found = kernel_distance_interval(own, judge.features(images))
        return found.value / (found.high - found.low) * 2 * 1.96

    assert abs(z(others)) < 3 and z(blurred(others, 1)) > 5 and z(noisy(others, 40, 0)) > 4
    covered = prdc(own, judge.features(others), 5).coverage
    assert prdc(own, judge.features(blurred(others, 1)), 5).coverage < covered - 0.1
    share = float((judge.modes(others) == drawn.labels[600:]).double().mean())
    assert share > 5 / 36


def _values(**changes: Estimate):
    """A GAN that is clearly ahead of the DCGAN."""
    gan = {"kid": _around(0.1, 0.02), "coverage": _around(0.8, 0.02), "recall": _around(0.7, 0.02), **changes}
    dcgan = {"kid": _around(0.3, 0.02), "coverage": _around(0.7, 0.02), "recall": _around(0.6, 0.02)}
    return {"gan": gan, "dcgan": dcgan}


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, "held"),
        ({"kid": _around(0.2, 0.02)}, "missed"),
        ({"kid": _around(0.16, 0.02)}, "undecided"),
        ({"recall": _around(0.61, 0.05)}, "undecided"),
        ({"coverage": _around(0.6, 0.02), "recall": _around(0.61, 0.05)}, "missed"),
    ],
)
def test_a_bar_is_held_missed_or_undecided(scripts, changes, verdict: str):
    from benchmarks.quality_bars import BARS, judge_bar

    bar = next(bar for bar in BARS if bar.text.startswith("gan"))
    assert judge_bar(bar, _values(**changes)).verdict == verdict
    assert judge_bar(bar, {"gan": {}}) is None


@pytest.mark.parametrize(
    ("power", "reach", "verdict"),
    [(0.9, 0.1, "held"), (1.0, 0.2, "held"), (0.72, 0.05, "undecided"), (0.5, 0.1, "missed"), (1.5, 0.1, "missed")],
)
def test_a_power_within_bounds(scripts, power: float, reach: float, verdict: str):
    from benchmarks.quality_bars import verdict as decided
    from benchmarks.quality_bars import within

    inside = within(_around(power, reach), 0.7, 1.3)
    assert decided(inside) == verdict and inside.low <= inside.value <= inside.high


def test_a_difference_has_the_interval_of_both(scripts):
    from benchmarks.quality_bars import difference

    found = difference(Estimate(5.0, 2.0, 9.0, 10), Estimate(2.0, 0.0, 3.5, 20), factor=2, offset=1)
    # 5 - 4 + 1; down by 3 and 2 x 1.5, up by 4 and 2 x 2.
    assert found == Estimate(2.0, 2 - 18**0.5, 2 + 32**0.5, 10)


def test_judges_that_disagree_are_named(scripts):
    from benchmarks.quality_bars import disagreements

    other = _values(coverage=_around(0.5, 0.02))
    assert list(disagreements(_values(), _values())) == []
    assert list(disagreements(_values(), other)) == [
        "the judges disagree: coverage is better of gan by the independent, of dcgan by the own"
    ]


def test_settings_are_of_one_model_or_of_all(scripts):
    from benchmarks.quality_models import jobs

    asked = _asked("--data=x", "--recipes=glyphs", "--out=out", "--models", "vae", "gan-conditional", "dcgan")
    asked.settings, asked.resolution, asked.train_images = ["batch_size=8", "gan-dcgan:model.augment=color"], 64, [100]
    found = {job.name: (job.recipe, job.settings) for job in jobs(asked)}
    every = ("--resolution=64", "--batch_size=8")
    assert found == {
        "vae": ("vae-glyphs", every),
        "gan-conditional": ("gan-glyphs-conditional", every),
        "dcgan": (None, every),
        "gan-dcgan-first-100": ("gan-dcgan-glyphs", (*every, "--model.augment=color")),
        "gan-dcgan-first-100-augmented": (
            "gan-dcgan-glyphs",
            (*every, "--model.augment=color", "--model.augment=color,translation,cutout"),
        ),
    }


def test_what_has_no_recipe_is_left_out(scripts, capsys: pytest.CaptureFixture[str]):
    from benchmarks.quality_models import jobs

    asked = _asked("--data=x", "--recipes=cifar10", "--out=out", "--models", "vae", "ali", "--train_images", "100")
    assert [job.name for job in jobs(asked)] == ["vae"]
    said = capsys.readouterr().out
    assert "ali: left out, there is no recipe ali-cifar10" in said
    assert "few training images: left out, there is no recipe gan-dcgan-cifar10" in said


def test_recipes_that_do_not_exist_end_as_a_mistake_does(tmp_path: Path):
    done = benchmark("quality", "--data=glyphs", "--recipes=nothing", f"--out={tmp_path / 'out'}")
    assert done.returncode == 2 and "recipes: there is none called vae-nothing" in done.stderr
    assert "Traceback" not in done.stderr and not (tmp_path / "out").exists()


def test_settings_that_do_not_exist_are_refused_before_a_judge_is_trained(
    scripts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from benchmarks import quality

    monkeypatch.setattr(quality, "_judges", lambda _: pytest.fail("a judge was trained"))
    asked = _asked("--data=x", "--recipes=glyphs", f"--out={tmp_path}", "--models", "vae", "--settings", "nothing=1")
    with pytest.raises(UserError, match="nothing"):
        quality.run(asked)


def test_what_a_finished_model_depends_on_is_in_its_key(scripts):
    from benchmarks.quality_models import jobs

    def key(*options: str, pixels: str = "a", held_out: str = "b", count: int = 40):
        asked = _asked("--data=x", "--out=out", "--recipes=glyphs", "--models", "dcgan", *options)
        (job,) = jobs(asked)
        training, store = (argparse.Namespace(fingerprint=name) for name in (pixels, held_out))
        real: Any = argparse.Namespace(training=training, store=store, images=range(count))
        return job.made_by(asked, real)

    assert key() == key()
    others = [
        # The recipes say which size, channels and latent a peer has.
        key("--recipes=fashion"),
        key("--resolution=64"),
        key("--channels=3"),
        key("--settings", "model.latent_channels=3"),
        key("--minutes=1"),
        key(count=41),
        key(pixels="c"),
        key(held_out="c"),
    ]
    assert all(other != key() for other in others)


def test_a_peer_that_isnt_installed_is_left_out(scripts, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    from benchmarks import quality_models

    monkeypatch.setitem(quality_models._PACKAGES, "dcgan", ("no-such-package",))
    asked = _asked("--data=x", f"--out={tmp_path}", "--recipes=glyphs", "--models", "dcgan")
    (job,) = quality_models.jobs(asked)
    split = argparse.Namespace(fingerprint="a")
    real: Any = argparse.Namespace(training=split, store=split, images=range(40))
    with pytest.raises(UserError, match="no-such-package isn't installed"):
        quality_models.made_of(job, asked, real)


def _asked(*options: str) -> argparse.Namespace:
    from benchmarks import quality

    parser = argparse.ArgumentParser()
    quality.add_arguments(parser)
    return parser.parse_args(list(options))


@pytest.fixture
def quick(scripts, glyph_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Options of the command for seconds; it sets torch's threads, which are as before afterwards."""
    from benchmarks import independent_judge

    monkeypatch.setattr(independent_judge, "_FEWEST_STEPS", 20)
    threads = torch.get_num_threads()
    yield [f"--data={glyph_folder}", "--recipes=glyphs", "--minutes=0.002"]
    torch.set_num_threads(threads)


def test_the_command_judges_what_is_finished_again(
    quick: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    from benchmarks import quality

    asked = _asked(*quick, "--n=60", f"--out={tmp_path}", "--models", "diffusers", "dcgan")
    assert quality.run(asked) == 0
    first = {name: (tmp_path / name / "pictures.safetensors").stat().st_mtime_ns for name in ("diffusers", "dcgan")}
    printed = capsys.readouterr().out
    assert quality.run(asked) == 0
    asked.minutes = 1
    with pytest.raises(SystemExit, match=r"\(minutes is 0\.002 there, 1 here\); give another --out"):
        quality.run(asked)
    assert first == {name: (tmp_path / name / "pictures.safetensors").stat().st_mtime_ns for name in first}
    written = read_json(tmp_path / "quality.json")
    assert list(written["models"]) == ["diffusers", "dcgan", "other real images"]
    row = written["models"]["diffusers"]
    assert row["pixels"].keys() == {"psnr", "gain", "coherence", "power", "power_samples"}
    assert row["independent_judge"].keys() >= {"kid", "recall", "coverage", "training_distance"}
    assert row["own_judge"].keys() == row["independent_judge"].keys()
    # Each by its own name: the independent one is no extractor of hfgen.
    assert written["judges"]["independent"].startswith("three-stages-whitened/")
    assert f"independent judge: {written['judges']['independent']}; " in printed
    assert (
        f"own judge: {written['judges']['own']}; " in printed and f"By {written['judges']['own']}, by which" in printed
    )
    assert "n: 50, half of the 100" in printed and printed.count("| dcgan |") == 2
    assert (tmp_path / "sheets" / "diffusers.png").is_file()


def test_a_model_that_diverged_is_left_out_and_its_bars_are_not_held(
    quick: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    from benchmarks import dcgan, quality

    def broken(resolution: int, channels: int):
        generator, discriminator = networks(resolution, channels)
        torch.nn.init.constant_(generator[-2].bias, float("nan"))
        return generator, discriminator

    networks = dcgan.networks
    monkeypatch.setattr(dcgan, "networks", broken)
    asked = _asked(*quick, "--n=40", f"--out={tmp_path}", "--check", "--models", "dcgan")
    assert quality.run(asked) == 1
    printed = capsys.readouterr().out
    assert (
        "dcgan: left out, model: the model gives NaN or infinity, first for image 0" in printed
        and "| other real images |" in printed
    )
    assert not (tmp_path / "dcgan" / "facts.json").exists()
