"""A prior or a generator that learns on gets back what was taken from it, and gains nothing where it is at its best."""

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from hfgen.data import draw
from hfgen.diagnosis.advice import advise
from hfgen.diagnosis.attribution import attribute, leads
from hfgen.diagnosis.budgets import Budget
from hfgen.diagnosis.chain import make_stages
from hfgen.diagnosis.learning_on import Learner, can_learn_on, learn_on, learner_of
from hfgen.diagnosis.plan import Plan, _parts, make_plan
from hfgen.diagnosis.ranking import rank
from hfgen.evaluation.passes import generate
from hfgen.families.gan import GAN
from hfgen.families.vqvae import VQVAE
from hfgen.files import write_json
from hfgen.images import to_float
from hfgen.metrics import Estimate
from hfgen.pipelines import GANPipeline, VQVAEPipeline, load
from hfgen.training.checkpoints import save_checkpoint
from hfgen.training.phases import Draws, Step

SIDE = 16
BUDGET = Budget(images=64, latent_steps=1, refit_steps=60, refit_batch=8)
SEEDS = list(range(64))
NARROW = {
    "discriminator_width": 16,
    "discriminator_max_width": 16,
    "latent_size": 8,
    "lr_discriminator": 2e-3,
    "lr_generator": 2e-3,
}


def codes_and_prior() -> VQVAEPipeline:
    """A random autoencoder whose codes are some latents of glyphs, and a small prior that knows nothing yet."""
    torch.manual_seed(0)
    family = VQVAE(codes=16, latent_size=4, width=16, max_width=16, prior_width=32, prior_layers=1, prior_heads=2)
    networks = family.build(SIDE, 1)
    vqvae = networks["vqvae"].eval()
    latents = vqvae.encode(to_float(draw("glyphs", "train", 0, 64, SIDE).images)).latents
    vectors = latents.permute(0, 2, 3, 1).flatten(0, 2)
    vqvae.quantize.embedding.weight.data.copy_(vectors[torch.randperm(len(vectors))[:16]])
    return VQVAEPipeline(vqvae, networks["prior"].eval())


@torch.no_grad()
def nats(pipeline: VQVAEPipeline, images: Tensor) -> float:
    """The prior's cross-entropy of a code, by its family's own loss."""
    family = VQVAE(codes=16)
    step = Step(to_float(images), None, Draws(0, 0, torch.device("cpu")), {"vqvae": pipeline.vqvae}, 0, 0)
    return float(family.phases()[1].loss({"prior": pipeline.prior}, step).total)


def test_a_prior_whose_weights_were_disturbed_gets_its_loss_back_and_one_at_its_best_gains_nothing():
    images, held_out = draw("glyphs", "train", 64, 600, SIDE).images, draw("glyphs", "test", 0, 200, SIDE).images
    further = partial(learn_on, images=images, seed=0, repeats=1)

    def learnt(pipeline: VQVAEPipeline, steps: int = BUDGET.refit_steps) -> VQVAEPipeline:
        learner = learner_of(pipeline, "", 0)
        assert learner is not None
        (found,) = further(pipeline, learner, budget=BUDGET._replace(refit_steps=steps))
        return found

    good = learnt(codes_and_prior(), 200)
    before = {name: value.clone() for name, value in good.prior.state_dict().items()}
    best = nats(good, held_out)
    assert best < 0.8 * nats(codes_and_prior(), held_out)
    assert abs(nats(learnt(good), held_out) - best) < 0.1
    # The model that was diagnosed is left as it was.
    assert all(torch.equal(value, before[name]) for name, value in good.prior.state_dict().items())
    disturbed = VQVAEPipeline(good.vqvae, good.prior)
    generator = torch.Generator().manual_seed(1)
    for parameter in disturbed.prior.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    lost = nats(disturbed, held_out) - best
    assert lost > 0.5
    assert nats(learnt(disturbed), held_out) - best < 0.2 * lost


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a GAN's run that has its settings, and no checkpoint."""
    folder = tmp_path_factory.mktemp("run")
    write_json(folder / "run.json", {"config": {"family": "gan", "model": NARROW}})
    return str(folder)


def test_a_generator_whose_brightness_was_moved_gets_it_back_and_one_that_makes_the_data_keeps_it(run: str):
    torch.manual_seed(0)
    pipeline = GANPipeline(GAN(width=16, max_width=16, **NARROW).build(SIDE, 1)["gan"].eval())
    pipeline.set_progress_bar_config(disable=True)
    # The data are what this very generator makes: it can't be better.
    data, bias = generate(pipeline, list(range(1000, 1400))), pipeline.gan.decoder.conv_out.bias

    def errors() -> tuple[float, float]:
        """In levels: of its own samples' mean, and after learning on."""
        learner = learner_of(pipeline, run, 0)
        assert learner is not None and learner.ahead == ("discriminator",)
        (learnt,) = learn_on(pipeline, learner, data, BUDGET._replace(refit_steps=40), 0, repeats=1)
        return tuple(float(generate(one, SEEDS).float().mean() - data.float().mean()) for one in (pipeline, learnt))

    assert all(abs(error) < 25 for error in errors())
    bias.data += 0.5
    moved, back = errors()
    assert moved > 45 and abs(back) < 25
    # The model that was diagnosed is left as it was.
    assert float(generate(pipeline, SEEDS).float().mean() - data.float().mean()) == moved


def test_the_discriminator_is_the_runs_own_where_there_is_one(trained_of: Callable[[str], Path]):
    run = trained_of("gan")
    learner = learner_of(load(run), str(run), 0)
    assert learner is not None and learner.ahead == ()
    (file,) = sorted(run.glob("checkpoints/*/training_state/network.discriminator.safetensors"))[-1:]
    stored = load_file(file)
    assert all(
        torch.equal(value, stored[name]) for name, value in learner.networks["discriminator"].state_dict().items()
    )


def test_of_a_checkpoint_on_the_way_it_is_the_checkpoints_and_of_a_damaged_one_a_new_one(
    trained_of: Callable[[str], Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    run = shutil.copytree(trained_of("gan"), tmp_path / "gan")
    first = sorted((run / "checkpoints").iterdir())[-1]
    own = load_file(first / "training_state" / "network.discriminator.safetensors")
    zeros = {name: torch.zeros_like(value) for name, value in own.items()}
    last = run / "checkpoints" / f"{10**6:012d}"
    save_checkpoint(last, load(run), {"network.discriminator": zeros}, 10**6)

    def learner(place: Path) -> Learner:
        found = learner_of(load(place), str(place), 0)
        assert found is not None
        return found

    for place, wanted in ((first, own), (first / "pretrained", own), (last / "pretrained", zeros), (run, zeros)):
        found = learner(place)
        state = found.networks["discriminator"].state_dict()
        assert found.notes == [] and all(torch.equal(state[name], value) for name, value in wanted.items())
    # A pickle in its place is never opened.
    file = last / "training_state" / "network.discriminator.safetensors"
    file.rename(file.with_suffix(".pt"))
    images = draw("glyphs", "train", 0, 8, SIDE).images
    tiny = Budget(images=4, latent_steps=1, refit_steps=2, refit_batch=4)
    chain = make_stages(load(run), images[:4], lambda: images, tiny, 0, tmp_path, model=str(run))
    assert chain.notes == ["generator_refit: against a new discriminator, as the run's own isn't at hand"]
    assert f"{file} is missing" in caplog.text and "the run starts again" not in caplog.text


def test_settings_that_are_refused_today_are_said_and_not_used(trained_of: Callable[[str], Path], tmp_path, caplog):
    write_json(tmp_path / "run.json", {"config": {"family": "gan", "model": {"penalty_every": 0}}})
    shutil.copytree(trained_of("gan") / "pretrained", tmp_path / "pretrained")
    learner = learner_of(load(tmp_path), str(tmp_path), 0)
    assert learner is not None and "its run's settings aren't used" in caplog.text


def test_the_work_is_announced_and_may_be_asked_for(trained_of: Callable[[str], Path]):
    pipeline = load(trained_of("gan"))
    assert make_plan(pipeline, BUDGET, True).refits and make_plan(pipeline, BUDGET, None).refits
    planned, without = (_parts(pipeline, Plan(refits, 10), BUDGET, 10) for refits in (True, False))
    assert planned.keys() - without.keys() == {"generator_refit"} and planned["generator_refit"] > BUDGET.refit_steps


def test_what_draws_otherwise_does_not_learn_on(trained_of: Callable[[str], Path]):
    pipeline = load(trained_of("vae"))
    assert can_learn_on(pipeline) is None and learner_of(pipeline, "", 0) is None


def stages(**means: float) -> dict[str, Tensor]:
    """Powers of 200 images with these means, spread alike; of refits, three that differ."""
    spread = 1 + 0.5 * torch.randn(200, generator=torch.Generator().manual_seed(0)).double().clamp(-1, 1)
    spread = spread / spread.mean()
    found = {"real": torch.ones(200).double(), **{name: value * spread for name, value in means.items()}}
    refits = [name for name in means if name.endswith("refit")]
    return found | {name: torch.stack([found[name] * factor for factor in (0.98, 1.0, 1.02)], 1) for name in refits}


def test_what_a_prior_loses_is_divided_into_its_training_and_its_kind():
    cells = {"mean": 0.9, "encoder": 0.9, "decoder": 0.9, "control": 0.9, "free": 0.9, "unquantised": 0.9}
    powers = stages(prior_sample=0.4, prior_refit=0.7, **cells)
    found = attribute(powers, 1.0, seed=0)
    assert found["prior_training"].value == pytest.approx(0.3) and found["prior"].value == pytest.approx(0.2)
    assert sum(each.value for name, each in found.items() if name != "missing") == pytest.approx(found["missing"].value)
    assert leads(powers, 1.0, seed=0)["prior_training"] > 0.9
    # Draws by the same seeds are resampled together, so that the difference is better known than each of them.
    alike = {**powers, "prior_refit": powers["prior_refit"].mean(1)}
    known = attribute(alike, 1.0, seed=0)
    assert _width(known["prior_training"]) < _width(known["missing"]) < _width(found["prior_training"])
    worse = attribute(stages(prior_sample=0.4, prior_refit=0.3, **cells), 1.0, seed=0)
    assert worse["prior_training"].value == pytest.approx(-0.1) and worse["prior"].value == pytest.approx(0.6)


def document(kid: float, **causes: float) -> dict:
    """Of samples whose KID is .2, and `kid` where they are drawn by what has learnt on."""
    known = {name: Estimate(value, value - 0.02, value + 0.02, 100).as_dict() for name, value in causes.items()}
    total = sum(causes.values())
    missing = Estimate(total, total - 0.04, total + 0.04, 100).as_dict()
    links = {"prior_sample": 0.2, "generator_refit": kid, "prior_refit": kid}
    chain = [{"stage": name, "kid": Estimate(v, v - 0.02, v + 0.02, 100).as_dict()} for name, v in links.items()]
    return {"causes": {**known, "missing": missing}, "chain": chain, "variety": None}


@pytest.mark.parametrize("part", ["generator", "prior"])
def test_training_is_named_where_it_helps_and_what_it_makes_worse_is_not_missing(part: str):
    def named(kid: float, training: float, rest: float) -> list[tuple[str, float]]:
        found = rank(document(kid, **{f"{part}_training": training, part: rest}))
        return [(each["cause"], pytest.approx(each["score"])) for each in found if each["of"] == "high-frequency power"]

    assert named(0.1, 0.4, 0.2) == [(f"{part}_training", 0.4), (part, 0.2)]
    # A short training that breaks a good generator says nothing against it.
    assert named(0.4, -0.5, 0.5) == []
    assert named(0.4, -0.3, 0.8) == [(part, 0.5)]
    # More power and samples that are farther from real ones: no detail.
    assert named(0.4, 0.4, 0.2) == [(part, 0.2)]


def test_a_share_that_a_short_training_adds_is_not_told_as_missing():
    made = {**document(0.3, generator_training=-0.2, generator=0.7), "bands": None, "latent": {}, "non_finite": []}
    made["chain"][0]["power"] = {"high": Estimate(0.5, 0.4, 0.6, 100).as_dict()}
    made["ranking"] = rank(made)
    assert made["ranking"][0] == {"cause": "generator", "score": pytest.approx(0.5), "of": "high-frequency power"}
    said = advise(made)[1]
    assert "leaves out 50 %" in said and "made it worse" in said and "70 %" not in said


def test_samples_that_come_nearer_to_real_ones_by_learning_on_name_it_after_kinds_that_are_left_out():
    found = document(0.05, generator_training=0.02, generator=0.03)
    assert [each["cause"] for each in rank(found)] == ["prior_training", "generator_training"]
    left_out = {**found, "variety": {"missing_share": 0.3}}
    assert [each["cause"] for each in rank(left_out)] == ["prior_training", "modes", "generator_training"]
    assert [each["cause"] for each in rank(document(0.19, generator_training=0.02, generator=0.03))] == ["sharp"]


def _width(estimate: Estimate) -> float:
    return estimate.high - estimate.low
