"""What VAE-GAN and VQGAN share: the adversary's losses and state, the perceptual term, and what stays frozen.

The public script's defects (a perceptual term under no_grad, reconstructions that aren't detached, left-over
gradients, ranks that drift, weights in bf16, averages that move too often, frozen networks that aren't) are tested
here and, for every family, in test_training_loop and test_training_processes.
"""

import json
import math
from pathlib import Path

import pytest
import torch
import transformers
from tiny import backward, make_trainer, tiny_config

import hfgen
from hfgen.errors import UserError
from hfgen.families import FAMILIES
from hfgen.recipes import recipe_names
from hfgen.training.cadence import Cadence
from hfgen.training.dry_run import dry_run
from hfgen.training.ema import EMA
from hfgen.training.train import train
from hfgen.training.trainer import Trainer

BOTH = pytest.mark.parametrize("family", ["vaegan", "vqgan"])
AUTOENCODER = {"vaegan": "vae", "vqgan": "vqvae"}


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random ResNet, as a Hub repository would hold it."""
    folder = tmp_path_factory.mktemp("backbone")
    config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1])
    torch.manual_seed(0)
    transformers.ResNetModel(config).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"size": 32, "image_mean": [0.5] * 3}))
    return folder


def begun(trainer: Trainer, images_seen: int = 32) -> Trainer:
    """Where the adversary is on, and a VQGAN's prior isn't yet."""
    trainer.images_seen = images_seen
    return trainer


def copy(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in network.state_dict().items()}


def same(before: dict[str, torch.Tensor], network: torch.nn.Module) -> bool:
    return all(torch.equal(before[key], value) for key, value in network.state_dict().items())


@BOTH
@pytest.mark.parametrize(
    "settings",
    [
        ["--model.adversarial_loss=hinge"],
        ["--model.adversarial_loss=relativistic", "--model.lecam_weight=1"],
        ["--model.adaptive=false", "--model.perceptual=embedded"],
    ],
)
def test_each_phase_reaches_all_of_its_own_network_and_none_of_the_others(
    family: str, settings: list[str], glyph_folder: Path, tmp_path: Path
):
    trainer = begun(make_trainer(family, glyph_folder, *settings))
    step = trainer.begin_step()
    for phase in trainer.phases[:2]:
        loss = backward(trainer, phase, step)
        assert phase.name == "discriminator" or "adversarial" in loss.terms
        for name, network in trainer.networks.items():
            wanted = trainer.trainable[name] if name in phase.trains else []
            reached = [parameter for parameter in network.parameters() if parameter.grad is not None]
            assert len(reached) == len(wanted), f"{phase.name}: {name}"
        trainer.optimizers[phase.name].zero_grad()
    assert not step.carry["reconstructions"].requires_grad


@BOTH
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_perceptual_terms_gradient_reaches_encoder_and_decoder(
    family: str, precision: str, backbone: Path, glyph_folder: Path, tmp_path: Path
):
    found = {}
    for weight in (0, 1000):
        settings = [f"--precision={precision}", f"--model.perceptual={backbone}", f"--model.perceptual_weight={weight}"]
        trainer = make_trainer(family, glyph_folder, *settings)
        loss = backward(trainer, trainer.phases[0], trainer.begin_step())
        network = trainer.networks[AUTOENCODER[family]]
        found[weight] = [network.encoder.conv_in.weight.grad, network.decoder.conv_out.weight.grad]
        assert 0 < loss.terms["feature_distance"] < 4 and not loss.terms["feature_distance"].requires_grad
    for without, term in zip(found[0], found[1000], strict=True):
        assert (term - without).norm() > without.norm()


@BOTH
def test_the_average_of_the_autoencoder_moves_once_a_step(family: str, glyph_folder: Path, tmp_path: Path, monkeypatch):
    trainer = begun(make_trainer(family, glyph_folder))
    moved = []
    update = EMA.update
    monkeypatch.setattr(EMA, "update", lambda ema, *rest: (moved.append(ema), update(ema, *rest)))
    trainer.step()
    assert len(moved) == 2 and trainer.emas[AUTOENCODER[family]] in moved


@BOTH
@pytest.mark.parametrize("kind", ["embedded", "backbone"])
def test_the_perceptual_network_never_moves_and_is_never_published(
    family: str, kind: str, backbone: Path, glyph_folder: Path, tmp_path: Path
):
    perceptual = backbone if kind == "backbone" else kind
    trainer = begun(make_trainer(family, glyph_folder, f"--model.perceptual={perceptual}"))
    network = trainer.networks["perceptual"]
    before = copy(network)
    trainer.step()
    trainer.step()
    assert same(before, network) and not any(parameter.requires_grad for parameter in network.parameters())
    held = {id(p) for o in trainer.optimizers.values() for group in o.param_groups for p in group["params"]}
    assert held.isdisjoint(map(id, network.parameters()))
    Cadence(trainer, tmp_path).save()
    (folder,) = (tmp_path / "checkpoints").glob("*/pretrained")
    assert {path.name for path in folder.iterdir() if path.is_dir()} <= {"vae", "vqvae", "prior"}


def test_the_embedded_network_is_learnt_before_the_first_step_and_kept_by_checkpoints(
    glyph_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    trainer = make_trainer("vqgan", glyph_folder)
    random = copy(trainer.networks["perceptual"])
    Cadence(trainer, tmp_path).resume()
    assert not same(random, trainer.networks["perceptual"])
    learnt = copy(trainer.networks["perceptual"])
    assert same(learnt, trainer.averages["perceptual"])
    trainer.step()
    Cadence(trainer, tmp_path).save()
    resumed = make_trainer("vqgan", glyph_folder)
    monkeypatch.setattr("hfgen.training.cadence.learn_ahead", lambda *_: pytest.fail("learnt again"))
    Cadence(resumed, tmp_path).resume()
    assert same(learnt, resumed.networks["perceptual"])


def test_the_network_that_trains_is_not_the_one_that_judges(glyph_folder: Path, tmp_path: Path):
    from hfgen.metrics import embedded_extractor

    trainer = make_trainer("vqgan", glyph_folder)
    Cadence(trainer, tmp_path).resume()
    store = trainer.store
    judge = embedded_extractor(store.images, store.labels, store.fingerprint, cache=tmp_path)
    ours, theirs = (
        [weight for weight in network.parameters() if weight.ndim == 4]
        for network in (trainer.networks["perceptual"], judge._network)
    )
    assert ours and theirs and not any(torch.equal(one, other) for one in ours for other in theirs)


@BOTH
def test_scores_are_averaged_after_the_discriminators_update_and_resumed(
    family: str, glyph_folder: Path, tmp_path: Path
):
    settings = ["--model.lecam_weight=0.5", "--model.lecam_decay=0.5", "--model.adversarial_begin=0"]
    trainer = make_trainer(family, glyph_folder, *settings)
    scores, seen = trainer.networks["scores"], []
    discriminator = trainer.phases[1]
    assert discriminator.name == "discriminator"
    trainer.networks["discriminator"].register_forward_hook(lambda _, __, output: seen.append(output.mean().item()))
    for index in range(2):
        before = scores.real.item(), scores.fake.item()
        seen.clear()
        trainer.step()
        assert scores.updates.item() == index + 1
        weight = (1, 0.5)[index]
        for value, old, new in zip((scores.real, scores.fake), before, seen[-2:], strict=True):
            assert value.item() == pytest.approx(old + weight * (new - old), abs=1e-6)
    Cadence(trainer, tmp_path).save()
    resumed = make_trainer(family, glyph_folder, *settings)
    Cadence(resumed, tmp_path).resume()
    assert same(copy(scores), resumed.networks["scores"]) and scores.real != 0


def test_the_relativistic_terms_pair_each_image_with_its_reconstruction(glyph_folder: Path, tmp_path: Path):
    settings = ["--model.adversarial_loss=relativistic", "--model.adaptive=false", "--model.adversarial_warmup=0"]
    trainer = begun(make_trainer("vaegan", glyph_folder, *settings))
    step = trainer.begin_step()
    generator = trainer.phases[0].loss(trainer.networks, step).terms["adversarial"]
    real, fake = (trainer.networks["discriminator"](x) for x in (step.images, step.carry["reconstructions"]))
    assert generator.item() == pytest.approx(torch.log1p((real - fake).exp()).mean().item(), rel=1e-4)
    discriminator = trainer.phases[1].loss(trainer.networks, step).terms["loss"]
    assert discriminator.item() == pytest.approx(torch.log1p((fake - real).exp()).mean().item(), rel=1e-4)
    assert discriminator.item() == pytest.approx(math.log(2), abs=0.3)


def test_a_vqgans_adversary_rests_while_the_prior_learns(glyph_folder: Path, tmp_path: Path):
    trainer = begun(make_trainer("vqgan", glyph_folder), 48)
    before = {name: copy(trainer.networks[name]) for name in ("vqvae", "discriminator", "scores", "prior")}
    trainer.step()
    assert [name for name, old in before.items() if not same(old, trainer.networks[name])] == ["prior"]


def test_a_frozen_encoder_keeps_its_bits_and_its_latents(glyph_folder: Path, tmp_path: Path):
    start = train(tiny_config("vae", glyph_folder), tmp_path / "start")
    statistics = hfgen.load(start).vae.config.scaling_factor
    settings = [f"--start_from={start}", "--model.freeze_encoder=true", "--model.adversarial_begin=0"]
    trainer = make_trainer("vaegan", glyph_folder, *settings)
    for _ in range(3):
        trainer.step()
    old = hfgen.load(start).vae.state_dict()
    for networks in (trainer.networks, trainer.averages):
        new = networks["vae"].state_dict()
        moved = {key.split(".")[0] for key, value in new.items() if not torch.equal(value, old[key])}
        assert moved == {"decoder", "post_quant_conv"}
        assert all(torch.equal(new[key], old[key]) for key in new if key.startswith(("encoder", "quant_conv")))
    Cadence(trainer, tmp_path / "tuned").save()
    assert hfgen.load(tmp_path / "tuned").vae.config.scaling_factor == statistics != 1


def test_a_random_encoder_isnt_frozen(glyph_folder: Path):
    with pytest.raises(UserError, match=r"model\.freeze_encoder: true keeps random weights; give start_from MODEL"):
        tiny_config("vae", glyph_folder, "--model.freeze_encoder=true")


def test_settings_give_the_stable_diffusion_autoencoders_shape():
    from diffusers import AutoencoderKL

    family = FAMILIES["vae"](
        latent_channels=4, latent_size=32, width=128, max_width=512, layers_per_block=2, attention=True
    )
    # The config of stabilityai/sd-vae-ft-mse; what it doesn't name are the class's defaults.
    stock = {
        "act_fn": "silu",
        "block_out_channels": [128, 256, 512, 512],
        "down_block_types": ["DownEncoderBlock2D"] * 4,
        "in_channels": 3,
        "latent_channels": 4,
        "layers_per_block": 2,
        "norm_num_groups": 32,
        "out_channels": 3,
        "sample_size": 256,
        "up_block_types": ["UpDecoderBlock2D"] * 4,
    }
    with torch.device("meta"):
        ours, theirs = family.build(256, 3)["vae"], AutoencoderKL.from_config(stock)
    shapes = [{name: tensor.shape for name, tensor in net.state_dict().items()} for net in (ours, theirs)]
    assert shapes[0] == shapes[1] and sum(p.numel() for p in ours.parameters()) == 83_653_863
    differ = {key for key in theirs.config if ours.config.get(key) != theirs.config[key]} - {"_use_default_values"}
    assert differ == {"scaling_factor", "force_upcast"}


@pytest.mark.parametrize("recipe", [name for name in recipe_names() if name.startswith("vaegan-finetune")])
def test_fine_tuning_recipes_are_complete(recipe: str):
    from hfgen.configs import load_config

    config = load_config(recipe)
    findings = dict(dry_run(config))
    assert "@" in config.start_from and "trains autoencoder" in findings["phase autoencoder"]
    assert config.model.freeze_encoder == recipe.endswith("decoder")


@pytest.mark.parametrize(
    ("family", "settings", "message"),
    [
        ("vqgan", {"adversarial_begin": 0.6}, r"model\.adversarial_begin: 0\.6 isn't in \[0, 0\.5\)"),
        ("vaegan", {"lecam_decay": 1.0}, r"model\.lecam_decay: 1\.0 isn't in \[0, 1\)"),
        ("vaegan", {"perceptual_weight": -1.0}, r"model\.perceptual_weight: -1\.0 is negative"),
        ("vaegan", {"layers_per_block": 0}, r"model\.layers_per_block: 0 is too small"),
        ("vqgan", {"perceptual": "resnet"}, r"model\.perceptual: resnet isn't a folder; .* image network .*embedded"),
        ("vaegan", {"perceptual": "org/name"}, r"model\.perceptual: org/name isn't a folder here and can't be fetched"),
    ],
)
def test_settings_that_cannot_work_are_refused(family: str, settings: dict, message: str):
    with pytest.raises(UserError, match=message) as error:
        FAMILIES[family](**settings).build(16, 1)
    assert "\n" not in str(error.value)
