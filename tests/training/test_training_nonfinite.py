"""Non-finite losses and gradients: the run stops and says where, or skips the update and counts it."""

import json
from pathlib import Path

import pytest
import torch
from tiny import make_trainer, tiny_config

from hfgen.errors import UserError
from hfgen.training.cadence import Cadence
from hfgen.training.train import train
from hfgen.training.trainer import Trainer


class Overflowing(torch.autograd.Function):
    """The identity, whose gradient is infinite."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * torch.inf


def overflow_at(trainer: Trainer, step: int) -> None:
    """Let the first phase's gradient overflow at a step."""
    module = trainer.modules[trainer.phases[0].name]
    loss = module.loss

    def broken(networks, seen):
        result = loss(networks, seen)
        return result._replace(total=Overflowing.apply(result.total)) if seen.index == step else result

    module.loss = broken


def test_a_loss_that_is_not_finite_stops_with_its_name_and_step(glyph_folder: Path, tmp_path: Path):
    config = tiny_config("vae", glyph_folder, "--model.lr=1e30", "--warmup_images=0")
    message = (
        r"vae/(kl|mse|nll) was non-finite at step 1 \(image 16\); there is no checkpoint yet: repeat .*--on_nonfinite"
    )
    with pytest.raises(UserError, match=message):
        train(config, tmp_path / "run")


def test_a_gradient_that_is_not_finite_leaves_the_weights_alone(family: str, glyph_folder: Path, tmp_path: Path):
    trainer = make_trainer(family, glyph_folder, "--on_nonfinite=skip")
    overflow_at(trainer, 1)
    trainer.step()
    before = {name: {k: v.clone() for k, v in net.state_dict().items()} for name, net in trainer.networks.items()}
    optimizer = trainer.optimizers[trainer.phases[0].name]
    moments = [{key: value.clone() for key, value in entry.items()} for entry in optimizer.state.values()]
    trainer.step()
    for name in trainer.phases[0].trains:
        after = trainer.networks[name].state_dict()
        assert all(torch.equal(before[name][key], after[key]) for key in after)
    for old, new in zip(moments, optimizer.state.values(), strict=True):
        assert all(torch.equal(old[key], new[key]) for key in old)
    trainer.step()
    assert any(
        not torch.equal(before[name][key], value)
        for name in trainer.phases[0].trains
        for key, value in trainer.networks[name].state_dict().items()
    )


def test_skipped_updates_are_counted_and_told(glyph_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    trainer = make_trainer("vae", glyph_folder, "--on_nonfinite=skip")
    cadence = Cadence(trainer, tmp_path)
    overflow_at(trainer, 1)
    while trainer.images_seen < 64:
        trainer.step()
        cadence.after_step()
    first, second = map(json.loads, (tmp_path / "log.jsonl").read_text().splitlines())
    assert first["vae/gradient_norm/nonfinite"] == 1 and "vae/gradient_norm/nonfinite" not in second
    assert "vae/gradient_norm was non-finite in 1 steps before image 32" in caplog.text


@pytest.mark.parametrize("family", ["vqvae", "gan"])
def test_a_line_without_a_finite_term_is_told_and_the_run_goes_on(
    family: str, glyph_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    trainer = make_trainer(family, glyph_folder, "--on_nonfinite=skip")
    cadence = Cadence(trainer, tmp_path)
    with torch.no_grad():
        next(trainer.networks[trainer.phases[0].trains[0]].parameters()).fill_(torch.nan)
    while trainer.images_seen < 32:
        trainer.step()
        cadence.after_step()
    name = {"vqvae": "vqvae/mse", "gan": "generator/loss"}[family]
    (line,) = map(json.loads, (tmp_path / "log.jsonl").read_text().splitlines())
    assert line[f"{name}/nonfinite"] == 2 and name not in line
    assert f"{name} was non-finite in 2 steps before image 32" in caplog.text and "collapsed" not in caplog.text


def test_stopping_names_the_newest_checkpoint_and_skipping_goes_on_from_it(glyph_folder: Path, tmp_path: Path):
    from hfgen.training.run_folder import claim_folder

    trainer = make_trainer("vae", glyph_folder)
    claim_folder(tmp_path, trainer.config, trainer.store, "auto")
    cadence = Cadence(trainer, tmp_path)
    overflow_at(trainer, 3)
    with pytest.raises(UserError, match=r"at step 3 \(image 48\); the newest checkpoint is of image 48"):
        while True:
            trainer.step()
            cadence.after_step()
    go_on = tiny_config("vae", glyph_folder, "--precision=fp32", "--on_nonfinite=skip")
    assert train(go_on, tmp_path).is_dir()
    assert json.loads((tmp_path / "run.json").read_text())["config"]["on_nonfinite"] == "skip"
