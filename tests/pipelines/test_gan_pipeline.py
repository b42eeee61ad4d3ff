"""The GAN's pipeline: classes, truncation, configs of before there were classes."""

import inspect
import json
import math
from pathlib import Path

import pytest
import torch

import hfgen
from hfgen.families.gan import GAN
from hfgen.models.hfgen_gan_v1 import GANGenerator
from hfgen.pipelines import GANPipeline
from hfgen.pipelines.hfgen_pipelines_v1 import _truncate


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module", params=[0, 3])
def pipe(request: pytest.FixtureRequest) -> GANPipeline:
    """Without classes, and with three."""
    family = GAN(latent_channels=4, max_width=16, conditional=request.param > 0)
    torch.manual_seed(0)
    return family.pipeline(family.build(16, 1, request.param))


@pytest.mark.parametrize("options", [{}, {"truncation": 0.5}])
def test_the_ith_image_of_a_seed_does_not_depend_on_the_batch_size(pipe: GANPipeline, options: dict):
    whole = pipe(batch_size=7, generator=seeded(), output_type="pt", **options).images
    draws = seeded()
    parts = [pipe(batch_size=n, generator=draws, output_type="pt", **options).images for n in (1, 2, 4)]
    torch.testing.assert_close(torch.cat(parts), whole, atol=1e-5, rtol=0)
    assert not torch.allclose(whole[0], whole[1], atol=1e-3)


def test_a_model_with_classes_draws_them_from_each_images_generator(pipe: GANPipeline):
    if not pipe.num_classes:
        pytest.skip("no classes")
    drawn = pipe(batch_size=30, generator=seeded(), output_type="pt").images
    by_class = [pipe(batch_size=30, generator=seeded(), output_type="pt", class_labels=c).images for c in range(3)]
    same = torch.stack([torch.isclose(drawn, images, atol=1e-5).flatten(1).all(1) for images in by_class])
    assert (same.sum(0) == 1).all() and (same.sum(1) > 3).all()
    labels = same.long().argmax(0)
    for given in (labels, labels.tolist()):
        images = pipe(batch_size=30, generator=seeded(), output_type="pt", class_labels=given).images
        torch.testing.assert_close(images, drawn)


def test_what_a_model_can_be_asked_for_is_listed(pipe: GANPipeline):
    options = set(pipe.sampling_options)
    assert options <= inspect.signature(pipe._generate).parameters.keys()
    assert options == ({"truncation", "class_labels"} if pipe.num_classes else {"truncation"})
    assert pipe.generator_network is pipe.gan and pipe.autoencoding_network is None


def test_classes_that_a_model_does_not_have_are_refused(pipe: GANPipeline):
    wrong = [
        (3, "3 is out of range; give 0 to 2"),
        ([0, -1], "-1 is out of range"),
        ([1], r"shape \(1,\) for 2 images"),
    ]
    for labels, message in wrong if pipe.num_classes else [(0, "the model has no classes; leave them out")]:
        with pytest.raises(ValueError, match=rf"class_labels: .*{message}") as error:
            pipe(batch_size=2, class_labels=labels)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("bound", [0.3, 1.0, 2.5])
def test_truncated_latents_are_normal_within_the_bound(bound: float):
    numbers = torch.randn(200_000, generator=seeded(), dtype=torch.float64)
    truncated = _truncate(numbers, bound)
    assert truncated.abs().max() <= bound
    density = math.exp(-(bound**2) / 2) / math.sqrt(2 * math.pi)
    variance = 1 - 2 * bound * density / math.erf(bound / math.sqrt(2))
    assert truncated.var().item() == pytest.approx(variance, rel=0.01)
    assert abs(truncated.mean().item()) < 0.01
    order = numbers.argsort()
    assert (truncated[order].diff() >= 0).all()


def test_a_bound_beyond_every_number_changes_nothing(pipe: GANPipeline):
    whole = pipe(batch_size=3, generator=seeded(), output_type="pt").images
    wide = pipe(batch_size=3, generator=seeded(), output_type="pt", truncation=9.0).images
    torch.testing.assert_close(wide, whole)
    narrow = pipe(batch_size=3, generator=seeded(), output_type="pt", truncation=1e-7, **_one_class(pipe)).images
    torch.testing.assert_close(narrow[0], narrow[1], atol=1e-4, rtol=0)


def _one_class(pipe: GANPipeline) -> dict:
    return {"class_labels": 0} if pipe.num_classes else {}


@pytest.mark.parametrize("bound", [0.0, -1.0, math.nan])
def test_a_truncation_that_leaves_nothing_is_refused(pipe: GANPipeline, bound: float):
    with pytest.raises(ValueError, match=r"truncation: .* isn't a bound; give a number above 0"):
        pipe(truncation=bound)


def test_a_generator_saved_before_there_were_classes_loads(tmp_path: Path):
    family = GAN(latent_channels=4, max_width=16)
    family.pipeline(family.build(16, 1)).save_pretrained(tmp_path)
    path = tmp_path / "gan" / "config.json"
    config = json.loads(path.read_text())
    del config["num_classes"]
    path.write_text(json.dumps(config))
    pipe = hfgen.load(tmp_path)
    assert isinstance(pipe.gan, GANGenerator) and pipe.num_classes == 0
    assert pipe(generator=seeded()).images[0].size == (16, 16)
