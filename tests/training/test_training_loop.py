"""The loop: what it trains, freezes, writes and refuses."""

import json
import signal
from pathlib import Path

import pytest
import torch
from tiny import make_trainer, tiny_config

import hfgen
from hfgen import kernels
from hfgen.errors import UserError
from hfgen.training.averaged_pipeline import averaged_pipeline
from hfgen.training.cadence import Cadence
from hfgen.training.checkpoints import load_checkpoint, newest_checkpoint
from hfgen.training.interrupts import Interrupted
from hfgen.training.meters import Reading
from hfgen.training.phases import Draws, Phase, Step
from hfgen.training.train import open_data, train
from hfgen.training.trainer import Trainer
from hfgen.training.warm_start import has_weights


def test_every_loss_reaches_the_parameters_it_should_and_no_others(family: str, glyph_folder: Path, tmp_path: Path):
    trainer = make_trainer(family, glyph_folder)
    images, labels = trainer.batch()
    step = Step(images, labels, Draws(0, 0, torch.device("cpu")), trainer.averages, index=0, progress=0.0)
    for phase in trainer.phases:
        trainer.train_only(phase)
        trainer.modules[phase.name](step).total.backward()
        for name, network in trainer.networks.items():
            for key, parameter in network.named_parameters():
                wanted = name in phase.trains and any(parameter is p for p in trainer.trainable[name])
                reached = parameter.grad is not None
                assert reached == wanted, f"{phase.name} {'reaches' if reached else 'misses'} {name}.{key}"
                parameter.grad = None
        assert all(p.grad is None for net in trainer.averages.values() for p in net.parameters())


def test_what_build_froze_is_never_moved_by_a_gradient(glyph_folder: Path, tmp_path: Path):
    trainer = make_trainer("vqvae", glyph_folder)
    weight = trainer.networks["vqvae"].quantize.embedding.weight
    for phase in trainer.phases:
        trainer.train_only(phase)
        assert not weight.requires_grad
    held = {id(p) for o in trainer.optimizers.values() for group in o.param_groups for p in group["params"]}
    assert id(weight) not in held


def test_a_resting_phase_leaves_its_networks_alone(glyph_folder: Path, tmp_path: Path):
    trainer = make_trainer("vqvae", glyph_folder)
    before = {key: value.clone() for key, value in trainer.networks["prior"].state_dict().items()}
    trainer.step()
    assert all(torch.equal(before[key], value) for key, value in trainer.networks["prior"].state_dict().items())
    trainer.images_seen = 48
    encoder = {key: value.clone() for key, value in trainer.networks["vqvae"].state_dict().items()}
    trainer.step()
    assert all(torch.equal(encoder[key], value) for key, value in trainer.networks["vqvae"].state_dict().items())
    assert not torch.equal(before["lm_head.weight"], trainer.networks["prior"].lm_head.weight)


def test_weights_and_averages_stay_fp32_under_bf16(family: str, glyph_folder: Path, tmp_path: Path):
    trainer = make_trainer(family, glyph_folder, "--precision=bf16")
    trainer.step()
    for networks in (trainer.networks, trainer.averages):
        assert all(p.dtype == torch.float32 for net in networks.values() for p in net.parameters())
    assert all(
        v.dtype == torch.float32 for o in trainer.optimizers.values() for e in o.state.values() for v in e.values()
    )


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(family: str, glyph_folder: Path, tmp_path: Path):
    runs = [make_trainer(family, glyph_folder, f"--seed={seed}") for seed in (0, 0, 1)]
    for trainer in runs:
        torch.rand(3)  # the global generator plays no part
        trainer.step()
        trainer.step()
    one, same, other = [trainer.networks[trainer.phases[0].trains[0]].state_dict() for trainer in runs]
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert not all(torch.equal(one[key], other[key]) for key in one)


def test_a_step_resumed_from_a_checkpoint_equals_the_step_that_went_on(family: str, glyph_folder: Path, tmp_path: Path):
    trainer = make_trainer(family, glyph_folder)
    for _ in range(3):
        trainer.step()
    Cadence(trainer, tmp_path).save()
    resumed = make_trainer(family, glyph_folder)
    Cadence(resumed, tmp_path).resume()
    assert resumed.images_seen == trainer.images_seen == 48
    for _ in range(2):
        trainer.step()
        resumed.step()
    one, two = trainer.state(), resumed.state()
    assert one.keys() == two.keys()
    for name in one:
        assert one[name].keys() == two[name].keys()
        assert all(torch.equal(one[name][key], two[name][key]) for key in one[name]), name


def test_a_finished_run_holds_what_it_promises(trained: Path):
    assert (trained / "pretrained" / "model_index.json").is_file()
    assert [path.name for path in sorted((trained / "samples").iterdir())] == [
        "000000048.png",
        "000000096.png",
    ]
    lines = [json.loads(line) for line in (trained / "log.jsonl").read_text().splitlines()]
    assert [line["images"] for line in lines] == [32, 64, 96]
    assert all(len(line) > 1 for line in lines)
    folders = sorted(path.name for path in (trained / "checkpoints").iterdir())
    assert folders == ["000000000048", "000000000096"]


def test_a_finished_run_is_not_trained_again(trained: Path, family: str, glyph_folder: Path):
    before = (trained / "run.json").stat().st_mtime_ns, (trained / "log.jsonl").stat().st_mtime_ns
    assert train(tiny_config(family, glyph_folder), trained) == trained / "pretrained"
    assert before == ((trained / "run.json").stat().st_mtime_ns, (trained / "log.jsonl").stat().st_mtime_ns)


@pytest.mark.parametrize("family", ["vae"], indirect=True, scope="session")
def test_a_finished_run_opens_no_data_and_builds_nothing(trained: Path, glyph_folder: Path, monkeypatch):
    monkeypatch.setattr("hfgen.training.train.open_data", lambda config: pytest.fail("opened the data"))
    monkeypatch.setattr("hfgen.training.train.Trainer", lambda *_: pytest.fail("built the networks"))
    assert train(tiny_config("vae", glyph_folder), trained) == trained / "pretrained"


def test_another_run_in_the_folder_is_refused_and_named(trained: Path, family: str, glyph_folder: Path):
    with pytest.raises(UserError, match=r"holds another run \(seed is 0 there, 3 here\); choose another --out"):
        train(tiny_config(family, glyph_folder, "--seed=3"), trained)
    with pytest.raises(UserError, match="holds this run already"):
        train(tiny_config(family, glyph_folder), trained, resume="never")


def test_a_folder_with_something_else_is_refused(glyph_folder: Path, tmp_path: Path):
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(UserError, match="isn't an empty folder and holds no run"):
        train(tiny_config("vae", glyph_folder), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


@pytest.mark.parametrize("family", ["vae"], indirect=True, scope="session")
def test_a_folder_is_refused_before_the_data_is_opened(trained: Path, glyph_folder: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setattr("hfgen.training.train.open_data", lambda config: pytest.fail("opened the data"))
    config, path = tiny_config("vae", glyph_folder), tmp_path / "file"
    path.write_text("dear")
    for out in (path, path / "run", path / "deep" / "run"):
        with pytest.raises(UserError, match=rf"out: {path},? .*is a file; (give|choose)"):
            train(config, out)
    with pytest.raises(UserError, match="isn't an empty folder and holds no run"):
        train(config, tmp_path)
    with pytest.raises(UserError, match="holds another run"):
        train(tiny_config("vae", glyph_folder, "--seed=3"), trained)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_signal_at_a_due_checkpoint_saves_once(glyph_folder: Path, tmp_path: Path):
    saved = []

    def stop(folder: Path, images: int) -> None:
        saved.append((images, folder.stat().st_ino))
        signal.raise_signal(signal.SIGTERM)

    config = tiny_config("vae", glyph_folder, "--keep_checkpoints=1")
    for end in (48, 96):
        with pytest.raises(Interrupted, match=f"stopped and saved at {end} images"):
            train(config, tmp_path / "run", on_checkpoint=stop)
        (folder,) = (tmp_path / "run" / "checkpoints").iterdir()
        assert saved == [(end, folder.stat().st_ino)]
        saved.clear()
    assert train(config, tmp_path / "run").is_dir()


@pytest.mark.parametrize("had", ["bf16", "fp32"])
def test_a_run_goes_on_in_the_precision_that_was_measured_first(
    had: str, glyph_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A second measurement can find otherwise."""
    config = tiny_config("vae", glyph_folder, "--precision=auto", "--max_images=64", "--sample_every=0")
    monkeypatch.setattr(kernels, "_cpu_has_bf16", lambda: True)
    monkeypatch.setattr(kernels, "_cpu_gains_by_bf16", lambda: had == "bf16")
    with pytest.raises(Interrupted):
        train(config, tmp_path / "run", on_checkpoint=lambda *_: signal.raise_signal(signal.SIGTERM))
    monkeypatch.setattr(kernels, "_cpu_gains_by_bf16", lambda: had != "bf16")
    train(config, tmp_path / "run")
    (computed,) = json.loads((tmp_path / "run" / "run.json").read_text())["computed"]
    assert computed["precision"] == had


def test_building_and_publishing_leave_the_callers_random_numbers_alone(
    glyph_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """On one device, too: to fork the state of every GPU makes a context on each."""
    forked, fork = [], torch.random.fork_rng
    monkeypatch.setattr(torch.random, "fork_rng", lambda devices=None, **_: (forked.append(devices), fork([]))[1])
    torch.manual_seed(5)
    before = torch.get_rng_state()
    averaged_pipeline(make_trainer("vae", glyph_folder))
    assert torch.equal(torch.get_rng_state(), before)
    assert len(forked) > 1 and all(devices == [] for devices in forked)


def test_a_collapse_is_told_once_it_lasts(glyph_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    cadence = Cadence(make_trainer("vqvae", glyph_folder), tmp_path)
    for perplexity, told in ((1.5, False), (9.0, False), (1.5, False), (1.25, True), (9.0, False)):
        caplog.clear()
        cadence.warn({"vqvae/perplexity": Reading(perplexity, 0, None)})
        assert ("the codebook has collapsed: 1.2 of 16 codes" in caplog.text) == told


@pytest.mark.parametrize("damage", ["truncate", "flip", "delete"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_is_used(
    damage: str, glyph_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    trainer = make_trainer("vae", glyph_folder)
    trainer.step()
    Cadence(trainer, tmp_path).save()
    trainer.step()
    Cadence(trainer, tmp_path).save()
    path = tmp_path / "checkpoints" / "000000000032" / "training_state" / "optimizer.vae.safetensors"
    content = bytearray(path.read_bytes())
    if damage == "truncate":
        path.write_bytes(content[:-7])
    elif damage == "flip":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    else:
        path.unlink()
    with pytest.raises(UserError, match=r"optimizer\.vae\.safetensors is (damaged|missing)"):
        load_checkpoint(path.parent.parent)
    found = newest_checkpoint(tmp_path / "checkpoints")
    assert found is not None and found[0] == 16
    assert "optimizer.vae.safetensors" in caplog.text


def test_a_checkpoint_of_another_network_names_the_keys(glyph_folder: Path, tmp_path: Path):
    trainer = make_trainer("vae", glyph_folder)
    trainer.step()
    Cadence(trainer, tmp_path).save()
    wider = make_trainer("vae", glyph_folder, "--model.max_width=32")
    with pytest.raises(UserError, match=r"checkpoint of vae doesn't fit this run: .*size mismatch for encoder"):
        Cadence(wider, tmp_path).resume()


def test_a_batch_that_processes_cannot_share_is_refused(glyph_folder: Path, tmp_path: Path):
    class Three:
        num_processes = 3

    config = tiny_config("vae", glyph_folder)
    with pytest.raises(UserError, match="batch_size: 16 can't be shared by 3 processes"):
        Trainer(config, open_data(config), Three())  # type: ignore[arg-type]


def test_a_run_starts_from_the_networks_of_a_published_model(trained: Path, family: str, glyph_folder: Path, tmp_path):
    trainer = make_trainer(family, glyph_folder, f"--start_from={trained}")
    pipeline = hfgen.load(trained)
    parts = {name: part for name in pipeline.component_names if (part := getattr(pipeline, name)) is not None}
    for name, part in parts.items():
        # What has no weights isn't learnt but fitted, and will be again.
        wanted = part.state_dict() if has_weights(part) else {}
        for networks in (trainer.networks, trainer.averages):
            assert all(torch.equal(value, networks[name].state_dict()[key]) for key, value in wanted.items())


@pytest.mark.parametrize("family", ["vae"], indirect=True, scope="session")
def test_a_start_that_does_not_fit_is_refused(trained: Path, glyph_folder: Path, tmp_path: Path):
    with pytest.raises(UserError, match=r"start_from: vae of .* is built otherwise .*size mismatch"):
        make_trainer("vae", glyph_folder, f"--start_from={trained}", "--model.latent_channels=8")
    with pytest.raises(UserError, match="is a vae, with no network that this run trains"):
        make_trainer("gan", glyph_folder, f"--start_from={trained}")


def test_what_is_measured_on_images_is_published(glyph_folder: Path, tmp_path: Path):
    trainer = make_trainer("vae", glyph_folder)
    seen = []

    def fit(averages, first):
        seen.append(torch.cat(list(first(70))))
        averages["vae"].decoder.conv_out.bias.fill_(float(len(seen)))

    trainer.phases = [*trainer.phases, Phase("measured", (), lambda networks, step: None, 0.0, fit=fit, begin=1.0)]
    trainer.step()
    Cadence(trainer, tmp_path).save()
    assert hfgen.load(tmp_path / "checkpoints" / "000000000016").vae.decoder.conv_out.bias.eq(1).all()
    trainer.images_seen = 0
    assert seen[0].shape == (70, 1, 16, 16) and torch.equal(seen[0][:16], trainer.batch()[0])
