"""`hfgen.Evaluator` in a training loop that isn't hfgen's: known answers, and nothing of the loop is changed."""

import re
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch.nn import functional

import hfgen
from hfgen import metrics
from hfgen.data import sources
from hfgen.errors import DataError, ModelError, SettingsError, UserError
from hfgen.evaluation.evaluator import Evaluator, _Chosen
from hfgen.images import to_float, to_pil, to_uint8

N, SIDE = 60, 16


@pytest.fixture(scope="module")
def evaluator(glyph_folder: Path) -> Evaluator:
    """Of grey glyphs."""
    return hfgen.Evaluator(str(glyph_folder), resolution=SIDE, n=N, device="cpu")


@pytest.fixture
def others(evaluator: Evaluator) -> Tensor:
    """Other real images."""
    return evaluator._real.others


def autoencoder(width: int = 8, channels: int = 1) -> AutoencoderKL:
    """A tiny one, in training."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return AutoencoderKL(
            in_channels=channels,
            out_channels=channels,
            latent_channels=2,
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            block_out_channels=(width, width),
            norm_num_groups=4,
            layers_per_block=1,
        ).train()


def blurred(images: Tensor) -> Tensor:
    return functional.avg_pool2d(functional.pad(images, (1, 1, 1, 1), mode="replicate"), 3, stride=1)


def test_the_identity_and_a_blur_are_told_as_what_they_are(evaluator: Evaluator):
    same, blur = evaluator.reconstructions(lambda images: images), evaluator.reconstructions(blurred)
    assert {"psnr", "ssim", "gain_high", "coherence_high", "hf_ratio_reconstruction", "kid_reconstruction"} == set(same)
    for name in ("gain_high", "coherence_high", "hf_ratio_reconstruction", "ssim"):
        assert (same[name].low, same[name].value, same[name].high) == pytest.approx((1, 1, 1), abs=1e-6)
    assert same["kid_reconstruction"].value == pytest.approx(0, abs=1e-9)
    assert blur["hf_ratio_reconstruction"].high < 0.5 and blur["gain_high"].low > 1
    assert blur["psnr"].high < same["psnr"].low and blur["kid_reconstruction"].low > 0
    expected = 10 * torch.log10(255**2 / (evaluator.images.double() - _pixels(evaluator)).square().mean((1, 2, 3)))
    assert blur["psnr"].value == pytest.approx(float(expected.mean()), abs=1e-3)


def _pixels(evaluator: Evaluator) -> Tensor:
    return to_uint8(blurred(to_float(evaluator.images))).double()


def test_numbers_are_those_of_a_whole_evaluation(evaluator: Evaluator, glyph_folder: Path):
    model = autoencoder()
    whole = hfgen.evaluate(model, str(glyph_folder), n=N, resolution=SIDE, device="cpu").record["metrics"]
    for found in (evaluator.reconstructions(model), evaluator(model), evaluator.reconstructions(model, batch=7)):
        assert {name: estimate.as_dict() for name, estimate in found.items()} == {name: whole[name] for name in found}


def test_notes_of_what_was_asked_for_are_kept(evaluator: Evaluator, monkeypatch: pytest.MonkeyPatch):
    asked = _Chosen(("psnr", "gain_high"))
    asked.add("gain_high, coherence_high", lambda: asked.note("said while it was measured") or {})
    asked.add("ssim", lambda: asked.note("never measured") or {})
    for of in ("", "psnr", "lpips, psnr", "lpips, dists"):
        asked.note(f"about {of}", of=of)
    assert asked.notes == ["said while it was measured", "about ", "about psnr", "about lpips, psnr"]

    monkeypatch.setattr(metrics, "capped_psnr", lambda real, images: torch.full((len(images),), torch.nan))
    (note,) = evaluator.reconstructions(blurred).notes
    assert note.startswith("psnr: left out (")


def test_a_wrapped_network_and_its_methods_are_the_network(evaluator: Evaluator):
    model = autoencoder()

    class Wrapped(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = model

    def called(images: Tensor) -> Any:
        assert not torch.is_grad_enabled()
        return model.decode(model.encode(images).latent_dist.mean)

    model.eval()
    expected = evaluator.reconstructions(called)
    model.train()
    assert evaluator.reconstructions(Wrapped()) == evaluator.reconstructions(model) == expected


def test_other_real_images_are_as_good_as_samples_can_be(evaluator: Evaluator, others: Tensor):
    real, noise = evaluator.baseline, evaluator.samples(torch.rand(N, 1, SIDE, SIDE) * 2 - 1)
    assert real["kid"].low < 0.05 < noise["kid"].low
    assert real["coverage"].low > 0.5 > noise["coverage"].high
    assert real["hf_ratio_sample"].low < 1 < real["hf_ratio_sample"].high < noise["hf_ratio_sample"].low
    assert evaluator.samples(others) == real


def test_each_form_of_the_same_images_gives_the_same_numbers(evaluator: Evaluator, others: Tensor):
    class Output:
        images = to_pil(others)

    forms: list[Any] = [
        to_float(others),
        to_float(others).requires_grad_(),
        list(others),
        to_pil(others),
        Output(),
        others.permute(0, 2, 3, 1).numpy(),
        list(others[:, 0].numpy()),
        [picture.convert("RGB") for picture in to_pil(others)],
    ]
    for form in forms:
        assert evaluator.samples(form) == evaluator.baseline
    for unit in (others.float() / 255, (others.permute(0, 2, 3, 1).float() / 255).numpy().astype(np.float64)):
        assert evaluator.samples(unit) == evaluator.baseline == evaluator.samples(unit, values="unit")


def test_a_guessed_range_is_said_once(evaluator: Evaluator, others: Tensor, caplog: pytest.LogCaptureFixture):
    unit = others.float() / 255
    for form in (unit, unit.permute(0, 2, 3, 1).numpy(), list(unit)):
        evaluator._said.clear()
        caplog.clear()
        for _ in range(2):
            evaluator.samples(form)
        assert [record.message for record in caplog.records if "[0, 1]" in record.message] == [
            "samples: no float is negative, so they are taken to be in [0, 1]; give values='signed' if not"
        ]
    caplog.clear()
    evaluator.reconstructions(lambda images: images / 2 + 0.5)
    assert "return [-1, 1], not [0, 1]" in caplog.text


def test_what_cannot_be_measured_is_refused(evaluator: Evaluator, others: Tensor):
    signed = to_float(others)
    refused: list[tuple[Any, type[UserError], str]] = [
        (signed[:3], DataError, "samples: 3 images, and the fewest to measure are 12"),
        (signed[:, :, :8, :8], DataError, r"samples: shape \(60, 1, 8, 8\), but the real images are N x 1 x 16 x 16"),
        (signed.expand(-1, 3, -1, -1), DataError, "samples: shape"),
        (signed[0, 0], DataError, "samples: shape"),
        (others.float(), SettingsError, "samples: floats up to 255; give uint8, or floats in"),
        (others.long(), DataError, "samples: numbers of torch.int64"),
        (signed.masked_fill(signed > 0, torch.nan), ModelError, "NaN or infinity"),
        ([to_pil(others)[0].resize((8, 8))] * 20, DataError, "samples: one has 8 x 8 pixels"),
        ([], DataError, "samples: nothing isn't an image"),
        ("runs/images", DataError, "samples: str isn't an image"),
    ]
    for images, error, words in refused:
        with pytest.raises(error, match=words):
            evaluator.samples(images)
    models: list[tuple[Any, type[UserError], str]] = [
        (lambda images: images[:1], DataError, "reconstructions: 1 of 60 images"),
        (lambda images: images[..., :8], DataError, "reconstructions: shape"),
        (lambda images: images * torch.inf, ModelError, "NaN or infinity"),
        (
            autoencoder(channels=3),
            SettingsError,
            "have 1, and AutoencoderKL takes 3; make the evaluator with channels=3",
        ),
        ("runs/vae", ModelError, r"model: runs/vae is an address; give hfgen.load\('runs/vae'\)"),
        (Path("runs/vae"), ModelError, r"model: runs/vae is an address; give hfgen.load\('runs/vae'\)"),
        ((lambda images: images, lambda images: images * torch.nan), ModelError, "NaN or infinity"),
        (17, ModelError, "model: int is no autoencoder; give "),
        ({"sample": lambda n: torch.zeros(n, 1, SIDE, SIDE)}, ModelError, "model: lambda reconstructs nothing"),
    ]
    for model, error, words in models:
        with pytest.raises(error, match=words):
            evaluator.reconstructions(model)
    with pytest.raises(ModelError, match="is an address"):
        evaluator("runs/vae")


def test_the_loop_around_goes_on_as_if_nothing_had_been_asked(evaluator: Evaluator):
    def losses(measured: bool) -> list[float]:
        torch.manual_seed(1)
        model = autoencoder()
        optimiser = torch.optim.AdamW(model.parameters(), 1e-3)
        found = []
        for step in range(3):
            images = to_float(evaluator.images[16 * step : 16 * step + 16])
            with torch.autocast("cpu", torch.bfloat16):
                loss = (model(images, sample_posterior=True).sample.float() - images).square().mean()
                if measured:
                    assert evaluator.baseline is not None and evaluator(model)["psnr"].value < 30
                    evaluator.samples(torch.randn(20, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0)))
            loss.backward()
            optimiser.step()
            optimiser.zero_grad()
            assert all(module.training for module in model.modules())
            found.append(loss.item())
        return found

    assert losses(True) == losses(False)


def test_half_precision_around_changes_no_number(evaluator: Evaluator, others: Tensor):
    with torch.autocast("cpu", torch.bfloat16):
        within = evaluator.samples(others), evaluator.reconstructions(blurred)
    assert within == (evaluator.samples(others), evaluator.reconstructions(blurred))


def test_what_is_returned_is_a_table_and_goes_into_a_tracker(evaluator: Evaluator):
    found = evaluator.reconstructions(blurred)
    assert found.values_only == {name: estimate.value for name, estimate in found.items()}
    assert re.search(rf"^psnr +{found['psnr'].value:.4g} ", str(found), re.MULTILINE)
    assert "<td>gain_high</td>" in found._repr_html_()
    assert found.to_pandas().loc["psnr", "low"] == found["psnr"].low


def test_the_readmes_loop_runs_as_it_is_written(glyph_folder: Path, capsys: pytest.CaptureFixture[str]):
    readme = (Path(hfgen.__file__).parent.parent / "README.md").read_text()
    (block,) = (text for text in re.findall(r"^```python\n(.*?)^```$", readme, re.S | re.M) if "Evaluator" in text)
    assert len(block.splitlines()) <= 13
    changes = [
        ('Evaluator("glyphs"', f"Evaluator({str(glyph_folder)!r}"),
        ("resolution=32", f"resolution={SIDE}"),
        ("16, 32)", f"16, {SIDE})"),
    ]
    small = block
    for written, here in changes:
        assert small.count(written) == 1, written
        small = small.replace(written, here)
    exec(compile(textwrap.dedent(small), "README.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if line.startswith("psnr")] == ["psnr"]


def test_it_asks_the_files_of_a_folder_for_their_state_once(glyph_folder: Path, monkeypatch: pytest.MonkeyPatch):
    looked, look = [], sources.folder_state
    monkeypatch.setattr(sources, "folder_state", lambda folder: looked.append(folder) or look(folder))
    Evaluator(str(glyph_folder), resolution=16, n=24)
    assert looked == [glyph_folder]


def test_settings_that_are_no_integers_are_refused_by_name(glyph_folder: Path, evaluator: Evaluator):
    for name, value in (("n", "60"), ("resolution", 16.0), ("resolution", "16"), ("n", [60]), ("resolution", None)):
        with pytest.raises(SettingsError, match=f"^{name}: {re.escape(repr(value))} isn't an integer; give one"):
            Evaluator(str(glyph_folder), **{"n": 20, "resolution": 16, name: value})
    with pytest.raises(SettingsError, match=r"^batch: '3' isn't an integer"):
        evaluator.reconstructions(lambda images: images, batch="3")


def test_a_range_that_there_is_not_is_refused(glyph_folder: Path):
    evaluator = Evaluator(str(glyph_folder), resolution=16, n=24)
    with pytest.raises(UserError, match=r"^values: 'unsigned' is unknown; give auto, signed, unit$"):
        evaluator.samples(torch.rand(16, 1, 16, 16), values="unsigned")
