"""The VQ-VAE: what is published quantises as training did, codes of three kinds, and a prior that knows classes."""

from pathlib import Path

import pytest
import torch
from tiny import make_trainer
from torch.nn.functional import normalize

import hfgen
from hfgen.errors import UserError
from hfgen.families.vqvae import VQVAE
from hfgen.pipelines import VQVAEPipeline
from hfgen.training.averaged_pipeline import averaged_pipeline
from hfgen.training.phases import Draws, Step

SMALL = {"codes": 16, "max_width": 16, "prior_width": 16, "prior_layers": 1, "prior_heads": 2}
KINDS = {
    "euclidean": {},
    "cosine": {"code_distance": "cosine"},
    "fsq": {"levels": (4, 2, 2), "codes": 16, "code_channels": 3},
}
CONDITIONAL = "--model.conditional=true"


def small(classes: int = 0, **settings) -> tuple[VQVAE, dict]:
    """A family at 16 px, and its networks."""
    family = VQVAE(**{**SMALL, **settings})
    torch.manual_seed(0)
    return family, family.build(16, 1, classes)


def step_of(networks: dict, labels: torch.Tensor | None = None, count: int = 8) -> Step:
    images = torch.rand(count, 1, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return Step(images, labels, Draws(0, 0, torch.device("cpu")), networks, index=0, progress=0.0)


def overrides(settings: dict) -> list[str]:
    return [f"--model.{key}={list(value) if isinstance(value, tuple) else value}" for key, value in settings.items()]


@pytest.mark.parametrize("kind", KINDS)
def test_the_published_model_quantises_as_training_does(kind: str, glyph_folder: Path, tmp_path: Path):
    trainer = make_trainer("vqvae", glyph_folder, *overrides(KINDS[kind]))
    for _ in range(3):
        trainer.step()
    step = trainer.begin_step()
    # The trained encoder in the published model's place, so that only the quantisation can differ.
    averages = trainer.averages["vqvae"]
    averages.encoder.load_state_dict(trainer.networks["vqvae"].encoder.state_dict())
    averages.quant_conv.load_state_dict(trainer.networks["vqvae"].quant_conv.state_dict())
    averages.post_quant_conv.load_state_dict(trainer.networks["vqvae"].post_quant_conv.state_dict())
    averages.decoder.load_state_dict(trainer.networks["vqvae"].decoder.state_dict())
    with torch.no_grad():
        trained, _, _ = trainer.config.model._reconstruction(trainer.networks, step)
    averaged_pipeline(trainer).save_pretrained(tmp_path / "published")
    vqvae = hfgen.load(tmp_path / "published").vqvae
    with torch.no_grad():
        latents = vqvae.encode(step.images).latents
        codes = vqvae.quantize(latents)[2][2].flatten()
        published = vqvae.decode(latents).sample
    assert torch.equal(codes, step.carry["codes"])
    assert len(codes.unique()) > 4
    torch.testing.assert_close(published, trained, rtol=1e-4, atol=1e-4)


def test_codes_of_unit_length_stay_so_when_published(glyph_folder: Path, tmp_path: Path):
    trainer = make_trainer("vqvae", glyph_folder, "--model.code_distance=cosine")
    for _ in range(4):
        trainer.step()
    codebook = trainer.averages["vqvae"].quantize.embedding.weight
    torch.testing.assert_close(codebook.norm(dim=1), torch.ones(len(codebook)))
    latents = torch.randn(500, codebook.shape[1], generator=torch.Generator().manual_seed(0)) * 7
    nearest = trainer.averages["vqvae"].quantize(latents[:, :, None, None])[2][2]
    assert torch.equal(nearest.flatten(), (normalize(latents, dim=1) @ codebook.T).argmax(1))


def test_the_codebook_is_averaged_once(glyph_folder: Path, tmp_path: Path):
    trainer = make_trainer("vqvae", glyph_folder)
    for _ in range(3):
        trainer.step()
    pair = [networks["vqvae"].quantize.embedding.weight for networks in (trainer.networks, trainer.averages)]
    assert torch.equal(*pair)


def test_a_grid_never_moves(glyph_folder: Path, tmp_path: Path):
    trainer = make_trainer("vqvae", glyph_folder, *overrides(KINDS["fsq"]))
    grid = trainer.networks["vqvae"].quantize.embedding.weight.clone()
    for _ in range(3):
        trainer.step()
    for networks in (trainer.networks, trainer.averages):
        assert torch.equal(networks["vqvae"].quantize.embedding.weight, grid)
    assert trainer.networks["codebook"].usage(100) > 0.5


def test_the_start_token_is_the_class_or_none():
    family, networks = small(classes=3, conditional=True, class_dropout=0.25)
    assert networks["prior"].config.vocab_size == 16 + 1 + 3
    labels = torch.arange(4000) % 3
    starts = family._starts(step_of(networks, labels, 4000))
    dropped = starts == 16
    assert dropped.float().mean().item() == pytest.approx(0.25, abs=0.03)
    assert torch.equal(starts[~dropped], 17 + labels[~dropped])
    assert family._starts(step_of(networks, labels, 4000)).equal(starts)


def test_the_prior_begins_as_wide_as_asked():
    _, networks = small(prior_init=0.05, prior_width=64)
    assert networks["prior"].transformer.wte.weight.std().item() == pytest.approx(0.05, rel=0.1)
    with pytest.raises(UserError, match=r"model.prior_init: 0.0 is no standard deviation; choose"):
        VQVAE(prior_init=0.0)


def test_an_unconditional_prior_ignores_labels():
    family, networks = small(classes=3)
    assert networks["prior"].config.vocab_size == 17
    assert family._starts(step_of(networks, torch.arange(8) % 3)).unique().tolist() == [16]


def test_a_conditional_prior_learns_its_classes():
    """Class 0 is black, class 1 is white: each must be drawn for its label, and for its label alone."""
    family, networks = small(classes=2, conditional=True, levels=(2,), codes=2, code_channels=1)
    optimizer = torch.optim.Adam(networks["prior"].parameters(), 3e-2)
    vqvae = networks["vqvae"]
    shades = [torch.full((1, 1, 16, 16), value) for value in (-1.0, 1.0)]
    with torch.no_grad():
        middle = sum(vqvae.encode(shade).latents.mean() for shade in shades) / 2
        vqvae.quant_conv.bias -= middle
    labels = torch.arange(32) % 2
    for index in range(80):
        step = Step(torch.cat(shades)[labels], labels, Draws(0, index, torch.device("cpu")), networks, index, 0.0)
        family._prior_loss(networks, step).total.backward()
        optimizer.step()
        optimizer.zero_grad()
    pipe = family.pipeline(networks)
    pipe.set_progress_bar_config(disable=True)
    with torch.no_grad():
        codes = [vqvae.quantize(vqvae.encode(shade).latents)[2][2].flatten() for shade in shades]
        starts = pipe._start_tokens([0, 1], torch.zeros(2))
        drawn = pipe._sample_prior(starts, torch.full((2, 16), 0.5), lambda logits, _: logits.argmax(1), 1.0)
    assert not torch.equal(*codes)
    assert ((drawn == torch.stack(codes)).sum(1) >= 15).all()


def test_a_conditional_run_trains_and_samples_each_class(glyph_folder: Path, tmp_path: Path):
    trainer = make_trainer("vqvae", glyph_folder, CONDITIONAL)
    trainer.images_seen = 48
    trainer.step()
    pipe = averaged_pipeline(trainer)
    assert pipe.num_classes == 3
    assert pipe(batch_size=2, class_labels=[2, 0], guidance_scale=1.5, output_type="pt").images.shape == (2, 1, 16, 16)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"conditional": True}, r"model\.conditional: true needs a label for every image, and the data has none"),
        ({"class_dropout": 0.0}, r"model\.class_dropout: 0\.0 isn't between 0 and 1"),
        ({"levels": (4, 4), "codes": 512}, r"model\.levels: \[4, 4\] are 16 codes of 2 channels, not 512 of 16; set"),
        ({"levels": (16, 1)}, r"model\.levels: 1 is too small"),
        ({**KINDS["fsq"], "code_distance": "cosine"}, r"model\.code_distance: cosine doesn't go with model\.levels"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict, message: str):
    with pytest.raises(UserError, match=message) as error:
        small(**settings)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("settings", [{"codes": 32}, {"latent_size": 8}])
def test_a_prior_for_another_codebook_is_refused(settings: dict, tmp_path: Path):
    (family, networks), (_, others) = small(), small(**settings)
    with pytest.raises(ValueError, match=r"prior: it draws .* codes, and the VQ-VAE has 16 of 16; take"):
        VQVAEPipeline(networks["vqvae"], others["prior"])
    family.pipeline(networks).save_pretrained(tmp_path)
    others["prior"].save_pretrained(tmp_path / "prior")
    with pytest.raises(UserError, match="take the prior that was trained on it"):
        hfgen.load(tmp_path)
