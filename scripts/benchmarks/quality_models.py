"""The models of the quality table: which there are, by which settings, and what each made in its time."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from benchmarks.budget import Given, Made
from hfgen.training.run_folder import as_json, first_difference

if TYPE_CHECKING:
    from torch import Tensor

    from hfgen.evaluation.held_out import HeldOut

OWN = ("vae", "vaegan", "vqvae", "vqgan", "gan", "gan-dcgan", "gan-r3", "ali", "gan-conditional", "vqvae-conditional")
PEERS = ("pythae_vae", "pythae_vqvae", "diffusers", "dcgan")
# What a peer needs beside hfgen's own.
_PACKAGES = {"pythae_vae": ("pythae",), "pythae_vqvae": ("pythae",)}
_TRAIN = str(Path(__file__).parents[1] / "train.py")
_DIFF_AUGMENT = "model.augment=color,translation,cutout"
_TRIAL, _SHORT_TRIAL, _SHORT = 3000, 320, 240
_BATCH = 250


class Job(NamedTuple):
    """A model to train: its recipe and its settings for `hfgen train`; without a recipe it is a peer of that name.

    `first`: on so many of the training images, not on all.
    """

    name: str
    recipe: str | None
    settings: tuple[str, ...] = ()
    first: int | None = None

    def made_by(self, arguments: argparse.Namespace, real: HeldOut) -> dict[str, Any]:
        """All that a model depends on: what a finished one must have been made by to be used again.

        Of a peer the config is that of the set's first recipe, which says its size, channels, latent and network.
        """
        from hfgen.configs import load_config
        from hfgen.documents import versions

        config = run_config(arguments) if self.recipe is None else load_config(self.recipe, self.settings)
        pixels = {"train": real.training.fingerprint, "test": real.store.fingerprint}
        used = versions(*_PACKAGES.get(self.name, ()))
        asked = {"recipe": self.recipe, "minutes": arguments.minutes, "samples": len(real.images)}
        found: dict[str, Any] = as_json({**asked, "config": config.as_dict(), "data": pixels, "versions": used})
        return found


def _recipe(name: str, recipes: str) -> str:
    """`gan-conditional` of `fashion` -> `gan-fashion-conditional`."""
    family, conditional, _ = name.partition("-conditional")
    return f"{family}-{recipes}{conditional}"


def _settings(arguments: argparse.Namespace, name: str) -> tuple[str, ...]:
    """Those for `hfgen train` beside the data, of one model."""
    given = {"resolution": arguments.resolution, "channels": arguments.channels}
    found = [f"--{key}={value}" for key, value in given.items() if value is not None]
    for setting in arguments.settings:
        model, colon, rest = setting.partition(":")
        if not (colon and model in OWN):
            found.append(f"--{setting}")
        elif model == name:
            found.append(f"--{rest}")
    return tuple(found)


def _first(arguments: argparse.Namespace) -> str:
    """The VAE or, where the set has no recipe of one, the next family."""
    from hfgen.errors import UserError
    from hfgen.recipes import recipe_names

    known = [name for name in OWN if _recipe(name, arguments.recipes) in recipe_names()]
    if not known:
        raise UserError(f"recipes: there is none called vae-{arguments.recipes}; see `hfgen train --help`")
    return known[0]


def run_config(arguments: argparse.Namespace) -> Any:
    """That of `_first`, which says size, channels and latent of them all."""
    from hfgen.configs import load_config

    name = _first(arguments)
    return load_config(_recipe(name, arguments.recipes), _settings(arguments, name))


def jobs(arguments: argparse.Namespace) -> Iterator[Job]:
    """Those that were asked for and that there are, with settings that exist; a line on each of the others."""
    from hfgen.configs import load_config
    from hfgen.recipes import recipe_names

    for name in arguments.models:
        recipe = None if name in PEERS else _recipe(name, arguments.recipes)
        if recipe is None:
            # By which its size, channels and latent are chosen.
            yield Job(name, None, _settings(arguments, _first(arguments)))
        elif recipe in recipe_names():
            load_config(recipe, _settings(arguments, name))
            yield Job(name, recipe, _settings(arguments, name))
        else:
            print(f"{name}: left out, there is no recipe {recipe}")
    # The GAN that sees the most images in its minutes.
    recipe = _recipe("gan-dcgan", arguments.recipes)
    if arguments.train_images and recipe not in recipe_names():
        print(f"few training images: left out, there is no recipe {recipe}")
        return
    for count in arguments.train_images:
        plain = Job(f"gan-dcgan-first-{count}", recipe, _settings(arguments, "gan-dcgan"), count)
        load_config(recipe, plain.settings)
        yield plain
        yield Job(f"{plain.name}-augmented", recipe, (*plain.settings, f"--{_DIFF_AUGMENT}"), count)


def made_of(job: Job, arguments: argparse.Namespace, real: HeldOut) -> Made:
    """What the model made, once it is trained.

    Raises:
        UserError: its library isn't there, its training ended with an error, or its images aren't finite.
        SystemExit: its folder is of other settings.
    """
    from safetensors.torch import load_file, save_file

    from hfgen.errors import UserError
    from hfgen.files import write_json

    folder = arguments.out / job.name
    try:
        asked = job.made_by(arguments, real)
    except ModuleNotFoundError as error:
        raise UserError(f"{error.name} isn't installed; see scripts/README.md") from error
    if (folder / "facts.json").is_file():
        written = json.loads((folder / "facts.json").read_text())
        if (difference := first_difference(written["made_by"], asked)) is not None:
            raise SystemExit(f"out: {folder} was made by other settings ({difference}); give another --out")
    else:
        folder.mkdir(parents=True, exist_ok=True)
        new = _own(job, arguments, real, folder) if job.recipe else _peer(job, arguments, real, folder)
        save_file(new.pictures, folder / "pictures.safetensors")
        written = {**new.facts, "made_by": asked}
        write_json(folder / "facts.json", written)
    facts = {name: value for name, value in written.items() if name != "made_by"}
    return Made(**{"reconstructions": None, **load_file(folder / "pictures.safetensors"), **facts})


def _own(job: Job, arguments: argparse.Namespace, real: HeldOut, folder: Path) -> Made:
    import hfgen
    from hfgen.evaluation.passes import reconstruct

    assert job.recipe is not None, "a peer has none"
    data, settings, out = arguments.data, list(job.settings), folder / "run"
    if job.first is not None:
        data, settings = _first_images(real, job.first, arguments), [*settings, "--split=all"]
    # What a killed call left hasn't had its whole time.
    shutil.rmtree(out, ignore_errors=True)
    images = _images_in(job.recipe, data, settings, 60 * arguments.minutes)
    _, seconds = _train(job.recipe, data, settings, images, out)
    pipeline = hfgen.load(out)
    pipeline.set_progress_bar_config(disable=True)
    samples, wanted = _samples(pipeline, len(real.images))
    again = reconstruct(pipeline, real.images) if pipeline.can_reconstruct else None
    precision = json.loads((out / "run.json").read_text())["computed"][0]["precision"]
    return Made(images, seconds, samples, again, wanted=wanted, precision=precision)


def _samples(pipeline: Any, count: int) -> tuple[Tensor, Tensor | None]:
    """An image a seed; of each class in turn, where the model has classes."""
    from hfgen.evaluation.passes import generate
    from hfgen.images import unit_to_uint8
    from hfgen.pipelines.finite import check_images
    from hfgen.seeds import derive_seed

    seeds = [derive_seed("sample", 0, index) for index in range(count)]
    if not (classes := getattr(pipeline, "num_classes", 0)):
        return generate(pipeline, seeds), None
    wanted, images = torch.arange(count) % classes, []
    for rows in torch.arange(count).split(_BATCH):
        generators = [torch.Generator().manual_seed(seeds[row]) for row in rows.tolist()]
        options = {"output_type": "pt", "class_labels": wanted[rows].tolist()}
        made = pipeline(len(rows), generators, **options).images
        check_images(made)
        images.append(unit_to_uint8(made))
    return torch.cat(images), wanted


def _first_images(real: HeldOut, count: int, arguments: argparse.Namespace) -> str:
    """A folder of the first training images that a run of seed 0 sees, so that all classes are there."""
    from hfgen.data import batch_indices
    from hfgen.images import to_pil

    folder = arguments.out / f"first-{count}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    rows = batch_indices(len(real.training), 0, count, seed=0)
    for index, image in enumerate(to_pil(real.training.targets[rows])):
        image.save(folder / f"{index:05d}.png")
    return str(folder)


def _train(recipe: str, data: str, settings: list[str], images: int, out: Path) -> tuple[float, float]:
    """Seconds of the whole command: of wall-clock, and of processor time."""
    from hfgen.errors import UserError

    command = [sys.executable, _TRAIN, recipe, "--small_images=pad", "--log_every=500", "--sample_every=0", *settings]
    command += [f"--data={data}", f"--out={out}", f"--max_images={images}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    before, started = os.times(), time.perf_counter()
    done = subprocess.run(command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment)
    took, after = time.perf_counter() - started, os.times()
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise UserError(f"{recipe} ended with exit code {done.returncode}: {last}")
    return took, after.children_user + after.children_system - before.children_user - before.children_system


def _images_in(recipe: str, data: str, settings: list[str], seconds: float) -> int:
    """How many images the recipe sees in so many seconds, by a short run with the same shares of its phases."""
    trial = _TRIAL if seconds > _SHORT else _SHORT_TRIAL
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        took, whole = _train(recipe, data, settings, trial, out)
        steps = sum(json.loads(line)["seconds"] for line in (out / "speed.jsonl").open()) * whole / took
    # Of runs so short that start-up takes their time, as many as the trial saw.
    return max(trial, int(trial * (seconds - (whole - steps)) / steps))


def _peer(job: Job, arguments: argparse.Namespace, real: HeldOut, folder: Path) -> Made:
    from benchmarks.peers import PEERS as MAKERS
    from hfgen.errors import UserError

    config, training = run_config(arguments), real.training.targets
    if not hasattr(config.model, "latent_size"):
        raise UserError(f"recipes: {arguments.recipes} has no VAE, whose latent and network its peers have")
    network = config.model.build(config.resolution, training.shape[1]).get("vae")
    network = {} if network is None else dict(network.config)
    numbers = config.model.latent_channels * config.model.latent_size**2
    count, seconds = len(real.images), 60 * arguments.minutes
    return MAKERS[job.name](Given(training, real.images, count, seconds, folder, numbers, network, config.seed))
