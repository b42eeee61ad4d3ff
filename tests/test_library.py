"""hfgen in other people's code: loaded models measured where they are, what is returned, and who writes what."""

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline
from tiny import autoencoder
from torch import Tensor
from torch.nn.functional import interpolate

import hfgen
from hfgen.data import open_store
from hfgen.documents import RECORD
from hfgen.errors import DataError, ModelError, SettingsError, UserError
from hfgen.evaluation.verification import verify
from hfgen.images import to_float, to_pil

N = 40


class Around(DiffusionPipeline):
    """A pipeline of somebody's own."""

    def __init__(self, vae: Any, other: Any = None) -> None:
        super().__init__()
        self.register_modules(vae=vae, other=other)


class Wrapped(torch.nn.Module):
    """As DistributedDataParallel does."""

    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()
        self.module = module


class Own(torch.nn.Module):
    """Of no library: one number an image, its mean, with a deviation of 1."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(1))

    def encode(self, images: torch.Tensor) -> Any:
        assert images.shape[-2:] == (16, 16)
        mean = self.scale * images.mean((2, 3))
        return mean, torch.zeros_like(mean)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return latents[:, :, None, None].expand(-1, -1, 16, 16)


def found_mean(measured: Any) -> torch.Tensor:
    """Of each image in [-1, 1]."""
    return to_float(measured.originals).mean((1, 2, 3))


def same(images: Any) -> Any:
    """The identity."""
    return images


@pytest.fixture(scope="module")
def measured(glyph_folder: Path) -> Any:
    """A loaded autoencoder's evaluation."""
    return hfgen.evaluate(autoencoder(), str(glyph_folder), n=N, resolution=16)


def test_importing_the_names_costs_no_diffusers():
    code = "import hfgen, sys; assert {'evaluate', 'compare', 'train', 'diagnose', 'Evaluator'} <= set(hfgen.__all__); "
    code += "sys.exit('diffusers' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_name_is_there_with_words_and_a_type():
    stub = Path(hfgen.__file__).with_suffix(".pyi").read_text()
    for name in hfgen.__all__:
        assert getattr(hfgen, name).__doc__ or name == "__version__"
        assert f" as {name}\n" in stub or f"{name}: " in stub


def test_a_loaded_autoencoder_measures_as_its_folder_does(measured: Any, glyph_folder: Path, tmp_path: Path):
    autoencoder().save_pretrained(tmp_path / "vae")
    by_address = hfgen.evaluate(tmp_path / "vae", str(glyph_folder), n=N, resolution=16)
    assert measured.record["metrics"] == by_address.record["metrics"]
    assert torch.equal(measured.reconstructions, by_address.reconstructions)
    assert measured.record["model"] | {"id": 0} == by_address.record["model"] | {"id": 0}
    assert measured.record["model"]["id"] == "AutoencoderKL (given as an object)"


def test_a_loaded_model_is_left_as_it_was(glyph_folder: Path):
    model = autoencoder()
    model.decoder.eval()
    modes, weights = [part.training for part in model.modules()], {k: v.clone() for k, v in model.state_dict().items()}
    torch.manual_seed(3)
    generator = torch.get_rng_state()
    hfgen.evaluate(model, str(glyph_folder), n=N, resolution=16)
    assert [part.training for part in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert all(weight.requires_grad for weight in model.parameters())


@pytest.mark.parametrize("around", [Around, Wrapped])
def test_what_holds_an_autoencoder_is_measured_as_it(around: Any, measured: Any, glyph_folder: Path):
    found = hfgen.evaluate(around(autoencoder()), str(glyph_folder), n=N, resolution=16)
    assert found.record["metrics"] == measured.record["metrics"]


def test_a_pipeline_of_hfgen_keeps_its_size(trained_vae: Path, glyph_folder: Path):
    pipeline = hfgen.load(trained_vae)
    side = pipeline.sample_size
    found = hfgen.evaluate(pipeline, str(glyph_folder), n=N, resolution=16)
    assert pipeline.sample_size == side
    assert found.samples is not None and "kid" in found.record["metrics"]
    assert (
        found.record["metrics"] == hfgen.evaluate(trained_vae, str(glyph_folder), n=N, resolution=16).record["metrics"]
    )


@pytest.fixture(scope="module")
def trained_vae(glyph_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that a script trained; the width's name has a dot."""
    settings = {"model.width": 16, "model.max_width": 16}
    out = tmp_path_factory.mktemp("library") / "vae"
    named: dict[str, Any] = {"max_images": 32, "batch_size": 16, "resolution": 16, "checkpoint_every": 32}
    folder = hfgen.train("vae-glyphs", str(out), data=str(glyph_folder), device="cpu", settings=settings, **named)
    assert folder == out / "pretrained"
    return out


def test_training_refuses_what_the_command_refuses(tmp_path: Path):
    with pytest.raises(UserError, match="did you mean vae-glyphs"):
        hfgen.train("vae-glyph", tmp_path / "run")
    with pytest.raises(UserError, match="max_image: no such setting"):
        hfgen.train("vae-glyphs", tmp_path / "run", max_image=3)
    with pytest.raises(UserError, match="resume: 'yes' is unknown; give auto or never"):
        hfgen.train("vae-glyphs", tmp_path / "run", resume="yes")
    assert not (tmp_path / "run").exists()


def test_what_is_returned_is_a_table(measured: Any):
    lines = str(measured).splitlines()
    assert lines[0].startswith("AutoencoderKL (given as an object) on 40 images of ") and lines[0].endswith("16 px")
    (psnr,) = (line.split() for line in lines if line.startswith("psnr "))
    entry = measured.record["metrics"]["psnr"]
    assert psnr[1] == f"{entry['value']:.4g}" and psnr[2:] == [f"[{entry['low']:.4g},", f"{entry['high']:.4g}]"]
    frame = measured.to_pandas()
    assert frame.loc["psnr"].to_dict() == entry
    page = measured._repr_html_()
    assert "<td>psnr</td>" in page and 'src="data:image/png;base64,' in page and "reconstruction" in page


def test_what_was_saved_verifies(measured: Any, glyph_folder: Path, tmp_path: Path):
    assert measured.save(tmp_path / "kept") == tmp_path / "kept"
    assert RECORD.read(tmp_path / "kept" / "record.json") == measured.record
    assert verify(tmp_path / "kept") > 50
    other = hfgen.evaluate(autoencoder(), str(glyph_folder), n=N, resolution=16, out=str(tmp_path / "second"))
    assert (tmp_path / "second" / "dataset" / "README.md").read_bytes() == (
        tmp_path / "kept" / "dataset" / "README.md"
    ).read_bytes()
    changed = {**other.record, "model": {**other.record["model"], "id": "another"}}
    with pytest.raises(SettingsError, match=r"out: .* holds the record of another model"):
        type(other)(changed, *list(vars(other).values())[1:]).save(tmp_path / "kept")


@pytest.mark.parametrize(
    "model, options, error, words",
    [
        (torch.nn.Linear(2, 2), {}, ModelError, "model: Linear fails on images of 1 x 16 x 16: RuntimeError: mat1"),
        (torch.nn.ReLU(), {"resolution": None}, SettingsError, "resolution: ReLU doesn't say which images it takes"),
        (torch.nn.ReLU(), {"dtype": "bf16"}, SettingsError, "dtype: bf16 asked, but functions get float32 images"),
        (torch.nn.ReLU(), {"tile": 8}, SettingsError, "tile: ReLU consists of functions, which hfgen can't tile"),
        (17, {}, ModelError, "model: int has no weights"),
        ([same, same, same], {}, ModelError, "model: list has no weights"),
        ({"encode": same}, {}, ModelError, "model: encode; give functions by the names encode and decode"),
        ({"draw": same}, {}, ModelError, "model: draw; give functions by the names"),
        (lambda images: images[..., :8], {}, DataError, "reconstructions: shape (1, 1, 16, 8), but the real images"),
        ((same, lambda z: z[..., :8]), {}, ModelError, "model: PairNetwork can't be used"),
        ({"sample": lambda n: torch.zeros(2, 1, 16, 16)}, {}, DataError, "samples: 2 images where 40 were asked for"),
        (autoencoder(), {"channels": 3}, SettingsError, "channels: 3 asked, but the model's images have 1"),
        (
            autoencoder(),
            {"dtype": "bf16"},
            SettingsError,
            "dtype: torch.bfloat16 asked, but the model given is torch.f",
        ),
        (autoencoder().double(), {}, SettingsError, "dtype: torch.float64 of the model given isn't measured"),
        (autoencoder(), {"variant": "fp16"}, SettingsError, "variant: 'fp16' is of files"),
        (autoencoder(), {"resolution": 17}, SettingsError, "resolution: 17 pixels; the model takes multiples of 2"),
        (autoencoder(), {"steps": 3}, SettingsError, "steps: "),
        (autoencoder(), {"resolution": "16"}, SettingsError, "resolution: '16' isn't an integer; give one"),
        (same, {"resolution": 16.0}, SettingsError, "resolution: 16.0 isn't an integer"),
        (autoencoder(), {"n": "60"}, SettingsError, "n: '60' isn't an integer"),
        (autoencoder(), {"n": 60.0, "crop": "none", "resolution": None}, SettingsError, "n: 60.0 isn't an integer"),
        (autoencoder(), {"tile": "8"}, SettingsError, "tile: '8' isn't an integer"),
    ],
)
def test_what_cannot_be_measured_is_refused(model: Any, options: Any, error: Any, words: str, glyph_folder: Path):
    with pytest.raises(error) as raised:
        hfgen.evaluate(model, str(glyph_folder), **{"n": N, "resolution": 16, **options})
    assert str(raised.value).startswith(words) and "\n" not in str(raised.value)


def test_a_loaded_model_is_no_address():
    with pytest.raises(ModelError, match="a AutoencoderKL is no address"):
        hfgen.load(autoencoder())


def test_functions_measure_as_the_network_that_they_call(measured: Any, glyph_folder: Path):
    model = autoencoder().eval()

    def measure(functions: Any) -> dict[str, Any]:
        return hfgen.evaluate(functions, str(glyph_folder), n=N, resolution=16).record

    pair = measure((model.encode, model.decode))
    assert pair["metrics"] == measured.record["metrics"] and pair["precision"] == measured.record["precision"]
    assert pair["model"] == {**measured.record["model"], "id": "AutoencoderKL (given as an object)"}
    one = measure({"reconstruct": lambda images: model.decode(model.encode(images).latent_dist.mean)})
    assert one["metrics"] == {name: measured.record["metrics"][name] for name in one["metrics"]}
    assert set(measured.record["metrics"]) - set(one["metrics"]) == {"rate_bits", "active_units"}
    assert one["model"] == {**one["model"], "id": "lambda (given as an object)", "family": "callable", "parameters": 0}

    flat = measure(Own())
    assert flat["model"]["id"] == "Own (given as an object)" and flat["model"]["parameters"] == 1
    assert flat["latent"]["shape"] == [1, 1, 1] and flat["metrics"]["hf_ratio_reconstruction"]["value"] == 0
    mean = found_mean(measured)
    expected = 0.5 * mean.square().sum() / len(mean) / math.log(2)
    assert flat["metrics"]["rate_bits"]["value"] == pytest.approx(float(expected), rel=1e-5)


def test_what_a_function_draws_is_the_same_again(glyph_folder: Path):
    def measure() -> Any:
        draw = {"sample": lambda n: torch.randn(n, 1, 16, 16), "reconstruct": lambda x: x + 0.1 * torch.randn_like(x)}
        return hfgen.evaluate(draw, str(glyph_folder), n=N, resolution=16)

    half = hfgen.evaluate({"reconstruct": lambda x: x / 2 + 0.5}, str(glyph_folder), n=N, resolution=16)
    assert any("return [-1, 1], not [0, 1]" in note for note in half.record["notes"])
    torch.manual_seed(5)
    state, first, second = torch.get_rng_state(), measure(), measure()
    assert first.record["metrics"] == second.record["metrics"] and first.seeds == []
    assert torch.equal(torch.get_rng_state(), state)
    assert {"kid", "psnr"} <= set(first.record["metrics"])


def test_images_measure_as_the_files_that_they_are_from(measured: Any, glyph_folder: Path, capfd: Any):
    split = {name: open_store(str(glyph_folder), split=name, resolution=16) for name in ("train", "test")}
    pictures = {name: to_pil(store.images) for name, store in split.items()}
    labelled = {name: list(zip(pictures[name], store.labels.tolist(), strict=True)) for name, store in split.items()}
    capfd.readouterr()
    found = hfgen.evaluate(autoencoder(), labelled, n=N, resolution=16)
    out, err = capfd.readouterr()
    assert out == err == ""
    assert found.record["metrics"] == measured.record["metrics"]
    assert found.record["data"] == {**measured.record["data"], "id": "dict (given as an object)"}


def test_a_loaded_model_and_its_functions_are_diagnosed(glyph_folder: Path, tmp_path: Path):
    model, options = autoencoder(), {"n": 20, "resolution": 16, "extractor": "pixels", "refits": False}
    found = hfgen.diagnose(model, str(glyph_folder), tmp_path / "why", **options)
    assert model.training and found.record["model"]["id"] == "AutoencoderKL (given as an object)"
    assert "given as an object" not in found.record["verdict"]["remedy"]
    assert str(found).startswith(found.record["verdict"]["sentence"])
    assert found.to_pandas().index[0] == found.record["ranking"][0]["cause"]
    assert found.record["verdict"]["sentence"][:40] in found._repr_html_()
    assert (found.save(tmp_path / "copy") / "diagnosis.json").is_file()
    few: dict[str, Any] = {"n": 20, "resolution": 16, "extractor": "pixels"}
    halved = hfgen.diagnose(lambda images: images / 2, str(glyph_folder), tmp_path / "half", **few)
    assert halved.record["verdict"]["cause"] == "contrast"

    def enlarged(latents: Tensor) -> Tensor:
        # Which torch doesn't have in bf16 on the CPU.
        return interpolate(latents, scale_factor=2, mode="bilinear", antialias=True)

    pair = hfgen.diagnose((lambda images: images[..., ::2, ::2], enlarged), str(glyph_folder), tmp_path / "two", **few)
    assert [link["stage"] for link in pair.record["chain"]] == ["mean"]
    with pytest.raises(SettingsError, match="refits: this model has no autoencoder that could be refit"):
        hfgen.diagnose(
            (model.encode, model.decode), str(glyph_folder), tmp_path / "no", n=20, resolution=16, refits=True
        )


@pytest.mark.slow
def test_tiles_of_what_is_diagnosed_are_in_its_record(glyph_folder: Path, tmp_path: Path):
    model, options = autoencoder(), {"n": 20, "resolution": 16, "extractor": "pixels", "refits": False}
    found = hfgen.diagnose(model, str(glyph_folder), tmp_path / "why", tile=8, **options)
    assert found.record["tiles"]["tile"] == 8 and found.record["tiles"]["rmse"] > 0 and not model.use_tiling


def test_comparing_what_is_loaded_with_a_run(trained_vae: Path, glyph_folder: Path, tmp_path: Path):
    first, second = autoencoder(), autoencoder(block_out_channels=(8, 16))
    models = [first, second, str(trained_vae), same]
    found = hfgen.compare(models, str(glyph_folder), str(tmp_path / "ab"), n=N, resolution=16)
    assert list(found.record["models"]) == ["AutoencoderKL", "AutoencoderKL-2", "vae", "same"]
    assert found.record["models"]["same"]["metrics"]["coherence_high"]["value"] == 1
    assert (tmp_path / "ab" / "report.html").is_file() and first.training and second.training
    frame = found.to_pandas()
    psnr = found.record["models"]["AutoencoderKL-2"]["metrics"]["psnr"]
    assert frame.loc[("AutoencoderKL-2", "psnr")].to_dict() == psnr
    assert str(found).splitlines()[0] == f"- {found.record['reading'][0]}"
    assert "<th>AutoencoderKL-2</th>" in found._repr_html_()
    assert (found.save(tmp_path / "copy") / "comparison.json").is_file()
    with pytest.raises(SettingsError, match="isn't empty"):
        found.save(tmp_path / "copy")


@pytest.mark.slow
def test_tiles_of_what_is_compared_are_in_its_record(glyph_folder: Path, tmp_path: Path):
    model, options = autoencoder(), {"n": 12, "resolution": 16, "extractor": "pixels"}
    found = hfgen.compare({"tiled": model}, str(glyph_folder), tmp_path / "ab", tile=8, **options)
    tiles = found.record["models"]["tiled"]["tiles"]
    assert tiles["tile"] == 8 and tiles["rmse"] > 0 and not model.use_tiling


def test_models_to_compare_are_several_and_differ(glyph_folder: Path, tmp_path: Path):
    model = autoencoder()
    refused: list[tuple[Any, str | None, type[UserError], str]] = [
        ([model, model], str(glyph_folder), SettingsError, "AutoencoderKL is given twice"),
        ("runs/vae", str(glyph_folder), SettingsError, "str isn't several models"),
        (model, str(glyph_folder), SettingsError, "AutoencoderKL isn't several models"),
        ({"before": model}, None, SettingsError, "data: none given"),
        ([model, "no/such/model/here"], str(glyph_folder), UserError, "no/such/model/here"),
        ({"real": model}, str(glyph_folder), SettingsError, "real can't be a model's name"),
        ({"../beside": model}, str(glyph_folder), SettingsError, "'../beside' can't be a model's name"),
        ({1: model}, str(glyph_folder), SettingsError, "1 can't be a model's name"),
        ([model], str(tmp_path / "none"), DataError, "data: "),
    ]
    for models, data, error, words in refused:
        with pytest.raises(error, match=words):
            hfgen.compare(models, data, tmp_path / "ab", n=N, resolution=16)
    for settings, words in [
        ({"out": 5}, "out: 5 names no folder; give one"),
        ({"out": ""}, "out: '' names no folder; give one"),
        ({"posterior": 5}, "posterior: 5 names no folder; give one"),
        ({"banana": 3}, "banana: no setting of a comparison; give some of split, n, seed, "),
        ({"banana": 3, "posterior": tmp_path / "none"}, "banana: no setting of a comparison"),
        ({"n": "60"}, "n: '60' isn't an integer; give one"),
    ]:
        with pytest.raises(SettingsError, match=words):
            hfgen.compare([model], str(glyph_folder), **{"out": tmp_path / "ab", "resolution": 16, **settings})
    assert not (tmp_path / "ab").exists()
