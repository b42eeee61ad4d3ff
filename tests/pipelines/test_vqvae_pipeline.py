"""Sampling a prior over codes: every option, and the i-th image of a seed with each."""

import inspect
import math

import pytest
import torch

from hfgen.families.vqvae import VQVAE
from hfgen.pipelines import VQVAEPipeline
from hfgen.pipelines.hfgen_pipelines_v1 import _choose

OPTIONS = [
    {},
    {"temperature": 0.5},
    {"top_k": 3},
    {"guidance_scale": 2.0},
    {"class_labels": 1, "guidance_scale": 0.0},
    {"class_labels": 2, "temperature": 0.7, "top_k": 5, "guidance_scale": 1.5},
]


def pipeline(classes: int) -> VQVAEPipeline:
    """Random networks whose prior is far from even."""
    family = VQVAE(codes=16, max_width=16, prior_width=16, prior_layers=1, prior_heads=2, conditional=classes > 0)
    torch.manual_seed(0)
    networks = family.build(16, 1, classes)
    torch.nn.init.normal_(networks["prior"].transformer.wte.weight, std=1.0)
    torch.nn.init.normal_(networks["vqvae"].quantize.embedding.weight)
    pipe = family.pipeline({name: network.eval() for name, network in networks.items()})
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def conditional() -> VQVAEPipeline:
    return pipeline(classes=3)


@pytest.fixture(scope="module")
def plain() -> VQVAEPipeline:
    return pipeline(classes=0)


def draw(pipe: VQVAEPipeline, count: int = 8, seed: int = 0, **options) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return pipe(batch_size=count, generator=generator, output_type="pt", **options).images


@pytest.mark.parametrize("options", OPTIONS)
def test_the_ith_image_of_a_seed_does_not_depend_on_the_batch_size(conditional: VQVAEPipeline, options: dict):
    whole, generator = draw(conditional, 7, **options), torch.Generator().manual_seed(0)
    parts = [
        conditional(batch_size=count, generator=generator, output_type="pt", **options).images for count in (1, 2, 4)
    ]
    torch.testing.assert_close(torch.cat(parts), whole, atol=2e-3, rtol=0)


def test_a_class_that_is_not_given_is_drawn_by_the_images_own_generator(conditional: VQVAEPipeline):
    generators = [torch.Generator().manual_seed(seed) for seed in range(12)]
    uniforms = torch.stack([torch.rand(17, generator=g)[-1] for g in generators])
    labels = (uniforms * 3).long()
    assert labels.unique().tolist() == [0, 1, 2]
    again = [torch.Generator().manual_seed(seed) for seed in range(12)]
    given = [torch.Generator().manual_seed(seed) for seed in range(12)]
    free = conditional(batch_size=12, generator=again, output_type="pt").images
    told = conditional(batch_size=12, generator=given, output_type="pt", class_labels=labels).images
    assert torch.equal(free, told)
    assert not torch.equal(draw(conditional, class_labels=0), draw(conditional, class_labels=1))


def test_guidance_of_1_is_the_class_alone_and_of_0_is_no_class(conditional: VQVAEPipeline):
    starts, uniforms = torch.tensor([17, 18, 19]), torch.rand(3, 16, generator=torch.Generator().manual_seed(0))

    def sampled(starts: torch.Tensor, scale: float) -> list[torch.Tensor]:
        seen: list[torch.Tensor] = []

        def choose(logits: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
            seen.append(logits.softmax(1))
            return _choose(logits, uniform, 1.0, None)

        with torch.no_grad():
            conditional._sample_prior(starts, uniforms.double(), choose, scale)
        return seen

    alone, nearly = sampled(starts, 1.0), sampled(starts, 1 + 1e-9)
    torch.testing.assert_close(alone, nearly, rtol=1e-4, atol=1e-5)
    none, guided = sampled(torch.full((3,), 16), 1.0), sampled(starts, 0.0)
    torch.testing.assert_close(none, guided, rtol=1e-4, atol=1e-5)
    strong = sampled(starts, 3.0)[0]
    expected = (none[0].log() + 3 * (alone[0].log() - none[0].log())).softmax(1)
    torch.testing.assert_close(strong, expected, rtol=1e-4, atol=1e-5)


def test_the_cache_gives_what_the_whole_sequence_gives(conditional: VQVAEPipeline):
    starts, seen = torch.tensor([16, 18]), []

    def choose(logits: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
        seen.append(logits)
        return _choose(logits, uniform, 1.0, None)

    with torch.no_grad():
        codes = conditional._sample_prior(starts, torch.rand(2, 16).double(), choose, 1.0)
        tokens = torch.cat([starts[:, None], codes[:, :-1]], 1)
        whole = conditional.prior(input_ids=tokens).logits[..., :16]
    torch.testing.assert_close(torch.stack(seen, 1), whole.double(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("options", [{"temperature": 0.0}, {"temperature": 1e-4}, {"temperature": 1e-300}])
def test_a_temperature_near_0_is_the_most_likely_code(plain: VQVAEPipeline, options: dict):
    best = draw(plain, top_k=1)
    assert torch.equal(best, draw(plain, **options))
    # Of all seeds, and unlike samples.
    assert torch.equal(best[:1].expand_as(best), best) and not torch.equal(best, draw(plain))


def test_choosing_follows_the_distribution():
    logits = torch.tensor([0.1, 0.0, 0.4, 0.2, 0.3], dtype=torch.double).log().expand(5, 5)
    uniforms = torch.tensor([0.0, 0.0999, 0.1001, 0.4999, 1 - 1e-9], dtype=torch.double)
    assert _choose(logits, uniforms, 1.0, None).tolist() == [0, 0, 2, 2, 4]
    # The two most likely, .4 and .3, hold all of it.
    assert _choose(logits, uniforms, 1.0, 2).tolist() == [2, 2, 2, 2, 4]
    assert _choose(logits, torch.full((5,), 4 / 7 + 1e-6).double(), 1.0, 2).tolist() == [4] * 5
    # Squared and normalised at temperature 1/2: .01, 0, .16, .04, .09.
    assert _choose(logits[:1], torch.tensor([0.01 / 0.3 - 1e-6]).double(), 0.5, None).tolist() == [0]
    assert _choose(logits[:1], torch.tensor([0.01 / 0.3 + 1e-6]).double(), 0.5, None).tolist() == [2]


def test_it_samples_in_bf16(conditional: VQVAEPipeline):
    pipe = pipeline(classes=3).to(torch.bfloat16)
    assert torch.isfinite(draw(pipe, 2, guidance_scale=2.0)).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"class_labels": 3}, r"class_labels: 3 isn't in 0 to 2, the model's classes"),
        ({"class_labels": [0, 1, -1, 2]}, r"class_labels: -1 isn't in 0 to 2"),
        ({"class_labels": [0, 1]}, r"class_labels: give one integer, or 4, one an image"),
        ({"class_labels": 0.5}, r"class_labels: give one integer"),
        ({"temperature": -1.0}, r"temperature: -1\.0 isn't a number from 0 up"),
        ({"temperature": math.nan}, r"temperature: nan isn't a number from 0 up"),
        ({"top_k": 0}, r"top_k: 0 isn't in 1 to 16"),
        ({"top_k": 17}, r"top_k: 17 isn't in 1 to 16"),
        ({"guidance_scale": -0.1}, r"guidance_scale: -0\.1 isn't a number from 0 up"),
    ],
)
def test_options_out_of_range_are_refused_in_one_line(conditional: VQVAEPipeline, options: dict, message: str):
    with pytest.raises(ValueError, match=message) as error:
        draw(conditional, 4, **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("options", [{"class_labels": 0}, {"guidance_scale": 2.0}])
def test_an_unconditional_model_has_no_classes(plain: VQVAEPipeline, options: dict):
    with pytest.raises(ValueError, match=r"class_labels: this model has no|guidance_scale: 2\.0 needs classes"):
        draw(plain, 2, **options)


def test_what_a_model_can_be_asked_for_is_listed(conditional: VQVAEPipeline, plain: VQVAEPipeline):
    options = set(conditional.sampling_options)
    assert options <= inspect.signature(conditional._generate).parameters.keys()
    assert conditional.num_classes == 3 and plain.num_classes == 0
    assert options - set(plain.sampling_options) == {"class_labels"}
    assert plain.autoencoding_network is plain.vqvae and plain.generator_network is None
