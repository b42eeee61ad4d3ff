"""Every verb's tensors on a device that isn't the CPU's: none is left behind, and none needs float64 on Apple's GPU."""

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import accelerate
import pytest
import torch
from safetensors.torch import load_file
from second_device import Second, second_device
from tiny import TINY, tiny_config

from hfgen import metrics
from hfgen.data import draw
from hfgen.diagnosis import diagnose as diagnosis
from hfgen.diagnosis.budgets import BUDGETS, Budget
from hfgen.evaluation import evaluate as evaluation
from hfgen.images import to_float
from hfgen.metrics import embedded_extractor, named_extractor
from hfgen.pipelines import ImagePipeline, given
from hfgen.space import knobs
from hfgen.training.train import train

pytestmark = pytest.mark.usefixtures("two_steps")
SIZE = 16
IMAGES = draw("glyphs", "test", 0, 40, SIZE).images


@contextlib.contextmanager
def pretended(kind: str) -> Iterator[Second]:
    """A second device, which torch says is there."""
    with pytest.MonkeyPatch.context() as patch:
        if kind == "mps":
            patch.setattr(torch.backends.mps, "is_available", lambda: True)
            patch.setattr(torch.backends.mps, "is_macos_or_newer", lambda *_: True)
            patch.setattr(torch.mps, "synchronize", lambda: None)
        else:
            here: dict[str, Any] = {"is_available": True, "device_count": 1, "get_device_name": "a card"}
            here |= {"get_rng_state": torch.get_rng_state(), "set_rng_state": None}
            here |= {"mem_get_info": (2**34, 2**34), "synchronize": None, "is_bf16_supported": True}
            for name, value in here.items():
                patch.setattr(torch.cuda, name, lambda *_, value=value, **__: value)
            patch.setattr(torch.backends.cudnn, "is_available", lambda: False)
        with second_device(kind) as there:
            # Loading uses `meta` itself.
            patch.setattr(given, "open_model", _asleep(there, given.open_model))
            # Accelerate keeps the device that it finds first for the whole process.
            accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
            try:
                yield there
            finally:
                accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)


def _asleep(second: Second, load: Callable[..., Any]) -> Callable[..., Any]:
    def asleep(*arguments: Any, **options: Any) -> Any:
        with second.asleep():
            return load(*arguments, **options)

    return asleep


@pytest.fixture(params=["mps", "cuda"])
def second(request: pytest.FixtureRequest) -> Iterator[Second]:
    """Each kind in turn: Apple's has no float64."""
    with pretended(request.param) as there:
        yield there


def model(family: str, *overrides: str, classes: int = 0) -> ImagePipeline:
    """An untrained pipeline, the same each time."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        config = tiny_config(family, Path("none"), *overrides).model
        pipeline = config.pipeline(config.build(SIZE, 1, classes))
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def seeds(count: int = 3) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in range(count)]


def outputs(pipeline: ImagePipeline) -> dict[str, torch.Tensor]:
    """All that it gives, on the CPU."""
    inputs, found = to_float(IMAGES[:3]), {}
    if pipeline.can_sample:
        found["samples"] = pipeline(batch_size=3, generator=seeds(), output_type="pt").images
    if pipeline.can_reconstruct:
        found["reconstructions"] = pipeline.reconstruct(inputs, output_type="pt").images
    if (posterior := pipeline.posterior(inputs)) is not None:
        found["mean"], found["log_variance"] = posterior
        found["from posterior"] = pipeline.reconstruct(inputs, output_type="pt", generator=seeds()).images
    if (codes := pipeline.codes(inputs)) is not None:
        found["codes"] = codes
    return {name: value.cpu() for name, value in found.items()}


def _assert_alike(found: torch.Tensor, expected: torch.Tensor) -> None:
    """But for rounding, which follows how memory lies."""
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 if expected.is_floating_point() else 0)


# What the second device refuses: else no test below could fail.


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (lambda ours: ours @ torch.rand(3, 2), "same device"),
        (lambda ours: ours + torch.rand(4, 3), "same device"),
        (lambda ours: torch.cat([ours, torch.rand(1, 3)]), "same device"),
        (lambda ours: ours.lerp_(torch.rand(4, 3), 0.5), "same device"),
        (lambda ours: torch.rand(3)[ours.argmax(1)], "indices should be"),
        (lambda ours: ours.index_put_((torch.tensor([0]),), torch.rand(3)), "same device"),
        (lambda ours: ours.numpy(), "to numpy"),
    ],
)
def test_a_tensor_left_on_the_cpu_is_found(fault: Callable[[torch.Tensor], Any], error: str, second: Second):
    with pytest.raises((RuntimeError, TypeError), match=error):
        fault(torch.rand(4, 3, device=second.device))


def test_what_a_device_allows_is_allowed(second: Second):
    ours = torch.rand(4, 3, device=second.device)
    assert (ours * torch.tensor(2.0))[torch.tensor([0, 1])].device == second.device
    assert torch.zeros(2, 2).copy_(ours[:2, :2]).device.type == "cpu"
    assert torch.equal(ours.cpu(), torch.rand(4, 3).to(ours).copy_(ours).cpu())


def test_float64_is_refused_where_there_is_none(second: Second):
    ours = torch.rand(4, 3, device=second.device)
    for widen in (torch.Tensor.double, lambda x: torch.zeros(2, dtype=torch.float64, device=x.device), torch.fft.fft2):
        if second.device.type == "mps" and widen is not torch.fft.fft2:
            with pytest.raises(TypeError, match="float64"):
                widen(ours)
        else:
            assert widen(ours).device == second.device


def test_a_network_with_one_parameter_on_the_cpu_is_found(second: Second):
    pipeline = model("vae").to(second.device)
    pipeline.vae.decoder.conv_out.to("cpu")
    with pytest.raises(RuntimeError, match="same device"):
        pipeline(batch_size=1, output_type="pt")


# The verbs.


@pytest.mark.parametrize("family", sorted(TINY))
def test_a_seeds_images_are_the_same_on_every_device(family: str, second: Second):
    expected = outputs(model(family))
    moved = outputs(model(family).to(second.device))
    for name, value in expected.items():
        _assert_alike(moved[name], value)


@pytest.mark.parametrize(
    ("family", "overrides", "options"),
    [
        ("gan", ["--model.conditional=true"], {"class_labels": [0, 2, 1], "truncation": 0.7}),
        ("gan", ["--model.conditional=true"], {}),
        ("vqvae", ["--model.conditional=true"], {"class_labels": 1, "guidance_scale": 2.0, "top_k": 3}),
        ("vqvae", ["--model.conditional=true"], {"temperature": 0.0}),
        ("vae", ["--model.prior=mixture"], {"prior": "fitted"}),
        ("vae", [], {"prior": "normal"}),
    ],
)
def test_options_of_a_draw(family: str, overrides: list[str], options: dict[str, Any], second: Second):
    pipelines = model(family, *overrides, classes=3), model(family, *overrides, classes=3).to(second.device)
    drawn = [each(batch_size=3, generator=seeds(), output_type="pt", **options).images.cpu() for each in pipelines]
    _assert_alike(*drawn)
    if family == "gan" and options:
        # Where the user's own tensors and generator are on the device.
        own = torch.Generator(second.device).manual_seed(0)
        labels = torch.tensor(options["class_labels"], device=second.device)
        pipelines[1](batch_size=3, generator=own, output_type="pt", class_labels=labels, truncation=0.7)


def test_dropout_of_a_translation(second: Second):
    pipeline = model("pix2pix", "--model.dropout=0.5").to(second.device)
    conditions = to_float(IMAGES[:3])
    assert pipeline(condition=conditions, generator=seeds(), output_type="pt").images.device == second.device


def test_a_prior_is_fitted_and_drawn_there(second: Second):
    prior = model("vae", "--model.prior=mixture").prior.to(second.device)
    latents = torch.randn(300, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    prior.fit(latents.to(second.device))
    assert prior.means.device == second.device and prior.log_prob(latents).device.type == "cpu"
    drawn = prior.sample(torch.rand(5), torch.randn(5, 4, 2, 2))
    assert drawn.device == second.device


def _noisy(images: torch.Tensor) -> torch.Tensor:
    noise = torch.randint(-20, 20, images.shape, generator=torch.Generator().manual_seed(0))
    return (images.int() + noise).clamp(0, 255).to(torch.uint8)


def _features(seed: int) -> torch.Tensor:
    return torch.randn(60, 4, generator=torch.Generator().manual_seed(seed)).double()


REAL, FAKE, OTHER, WIDE = _features(0), _features(1) + 0.2, _features(2), draw("glyphs", "test", 0, 6, 176).images
MEASURES: dict[str, Callable[[], Any]] = {
    "spectrum": lambda: metrics.power_spectrum(IMAGES).bands,
    "identity": lambda: metrics.averaging_identity(IMAGES, _noisy(IMAGES)).estimates(seed=0),
    "sharpness": lambda: metrics.sharpness(IMAGES)["blur_effect"],
    "psnr": lambda: metrics.capped_psnr(IMAGES, _noisy(IMAGES)),
    "ssim": lambda: metrics.ssim(IMAGES, _noisy(IMAGES), 255),
    "ms_ssim": lambda: metrics.ms_ssim(WIDE, _noisy(WIDE), 255),
    "kid": lambda: metrics.kernel_distance_interval(REAL, FAKE),
    "kid difference": lambda: metrics.kernel_distance_difference(REAL, FAKE, OTHER),
    "paired kid": lambda: metrics.paired_kernel_distance(REAL, FAKE),
    "fd": lambda: metrics.frechet_distance_interval(REAL, FAKE, seed=0),
    "prdc": lambda: metrics.prdc_intervals(REAL, FAKE, 3, seed=0),
    "coverage": lambda: metrics.coverage_difference(REAL, FAKE, OTHER, 3, seed=0),
    "memorisation": lambda: metrics.memorisation([REAL], FAKE, OTHER, seed=0),
    "ndb": lambda: metrics.ndb(REAL, FAKE, OTHER, 4, seed=0),
    "two_sample": lambda: metrics.two_sample_test(REAL, FAKE, seed=0),
    "pixels": lambda: metrics.pixel_statistics(IMAGES),
    "perceptual": lambda: metrics.perceptual_distance(REAL, FAKE),
    "vendi": lambda: metrics.vendi_interval(REAL, seed=0),
}


@pytest.mark.parametrize("name", MEASURES)
def test_metrics_are_those_of_the_cpu(name: str):
    expected = MEASURES[name]()
    with pretended("cuda") as second, metrics.computing_on(second.device):
        found = MEASURES[name]()
    if isinstance(expected, torch.Tensor):
        assert found.device.type == "cpu" and found.dtype == torch.float64
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    else:
        assert _numbers(found) == pytest.approx(_numbers(expected), rel=1e-9, abs=1e-12)


def _numbers(found: Any) -> list[float]:
    if isinstance(found, metrics.Estimate):
        return [found.value, found.low, found.high]
    return [number for part in (found.values() if isinstance(found, dict) else found) for number in _numbers(part)]


def test_extractors_compute_there_and_answer_on_the_cpu(second: Second, tmp_path: Path):
    from metrics.test_metrics_backbones import save as save_backbone

    labels = torch.arange(len(IMAGES)) % 3
    with second.asleep():
        judges = [
            embedded_extractor(IMAGES, labels, "0" * 64, cache=tmp_path / "cache"),
            *(named_extractor(str(save_backbone(tmp_path / kind, kind))) for kind in ("dinov2", "vit", "convnext")),
        ]
    for judge in judges:
        expected = judge.features(IMAGES)
        found = judge.to(second.device).features(IMAGES)
        assert found.device.type == "cpu" and found.dtype == torch.float64
        _assert_alike(found, expected)
    assert judges[0].modes(IMAGES).device.type == "cpu"


def _published(family: str, folder: Path) -> Path:
    model(family).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(("family", "kind"), [("vae", "mps"), ("vqvae", "mps"), ("gan", "cuda"), ("pix2pix", "cuda")])
def test_an_evaluation_is_that_of_the_cpu(family: str, kind: str, glyph_folder: Path, tmp_path: Path):
    folder = _published(family, tmp_path / "model")
    here = evaluation.evaluate(folder, str(glyph_folder), n=24, out=tmp_path / "cpu", device="cpu").record
    with pretended(kind):
        there = evaluation.evaluate(folder, str(glyph_folder), n=24, out=tmp_path / kind).record
    assert there["protocol"]["device"] == {"mps": "mps", "cuda": "cuda: a card"}[kind]
    assert {key: there["protocol"][key] for key in ("dtype", "batch")} == {"dtype": "fp32", "batch": 250}
    assert here["protocol"]["device"] == "cpu"
    for part in ("metrics", "baseline"):
        assert _values(there[part]) == pytest.approx(_values(here[part]), rel=1e-6, abs=1e-6)


def _values(estimates: dict[str, Any]) -> dict[str, float]:
    return {name: estimate["value"] for name, estimate in estimates.items()}


_SLOW = [pytest.param(*each, marks=pytest.mark.slow) for each in (("vae", "mps"), ("vqvae", "cuda"))]


@pytest.mark.parametrize(("family", "kind"), [("gan", "mps"), ("pix2pix", "cuda"), *_SLOW])
def test_a_diagnosis_is_that_of_the_cpu(
    family: str, kind: str, glyph_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(BUDGETS, "small", Budget(images=24, latent_steps=1, refit_steps=1, batch=24))
    folder = _published(family, tmp_path / "model")
    here = diagnosis.diagnose(folder, str(glyph_folder), out=tmp_path / "cpu", device="cpu")
    with pretended(kind):
        there = diagnosis.diagnose(folder, str(glyph_folder), out=tmp_path / kind)
    assert there["protocol"]["device"].startswith(kind)
    stages = [{link["stage"]: _values(link["power"]) for link in document["chain"]} for document in (here, there)]
    assert stages[0].keys() == stages[1].keys()
    # Autocast knows the real device only.
    for name in stages[0].keys() - {"low_precision"}:
        assert stages[1][name] == pytest.approx(stages[0][name], rel=1e-2), name


@pytest.mark.parametrize("family", ["vae", "vqvae", "gan"])
def test_the_spaces_knobs_turn_there(family: str, second: Second):
    here, there = model(family), model(family).to(second.device)
    assert torch.equal(*(knobs.interpolate(each, 0, 1, 3) for each in (here, there)))
    if here.can_reconstruct:
        turned = [knobs.reconstruct(each, IMAGES[:3], knobs.Knobs(posterior=True)) for each in (here, there)]
        assert torch.equal(turned[0].images, turned[1].images)
        assert turned[1].rate_bits.device.type == "cpu"
        cut = knobs.Knobs(keep=0.5, noise=0.5)
        turned = [knobs.reconstruct(each, IMAGES[:3], cut, knobs.components(each, IMAGES)) for each in (here, there)]
        assert (turned[0].images.short() - turned[1].images.short()).abs().max() <= 1


RUN = ("--precision=fp32", "--compiled=off", "--max_images=48", "--sample_every=32", "--checkpoint_every=32")

RICHER = {
    "gan": ("--model.augment=color,translation,cutout", "--model.conditional=true", "--model.penalty_every=1"),
    "vae": ("--model.likelihood=learned", "--model.free_bits=0.1"),
    "vaegan": ("--model.penalty=1", "--model.penalty_every=1", "--model.likelihood=calibrated"),
    "vqvae": ("--model.code_distance=cosine", "--model.conditional=true"),
    "pix2pix": ("--model.dropout=0.2",),
}
"""What else of a family's losses has tensors of its own."""


@pytest.mark.parametrize("family", sorted(TINY))
def test_a_run_trains_saves_and_resumes_there(family: str, glyph_folder: Path, tmp_path: Path):
    kind = "mps" if sorted(TINY).index(family) % 2 else "cuda"
    config, out = tiny_config(family, glyph_folder, *RUN, *RICHER.get(family, ())), tmp_path / "run"
    with pretended(kind) as second, pytest.MonkeyPatch.context() as patch:
        patch.setattr(accelerate.Accelerator, "device", property(lambda _: second.device))
        train(config, out)
        whole = _weights(out)
        # As if it had been killed after its first checkpoint.
        shutil.rmtree(out / "pretrained")
        shutil.rmtree(max((out / "checkpoints").iterdir()))
        train(config, out)
    assert whole and all(torch.equal(value, whole[name]) for name, value in _weights(out).items())


def _weights(out: Path) -> dict[str, torch.Tensor]:
    paths = sorted((out / "pretrained").rglob("*.safetensors"))
    return {f"{path.parent.name}.{name}": value for path in paths for name, value in load_file(path).items()}
