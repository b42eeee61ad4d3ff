"""Models with a planted fault each: does `hfgen diagnose` name it first?

Small models of 16 px are trained on ten classes of `--data` (the digits of `glyphs`), once: what `--out` holds isn't
trained or diagnosed again. The bar: every planted cause is named first, at every seed.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

    from hfgen.data import ImageStore

RESOLUTION, CLASSES = 16, 10
LEFT_OUT = (1, 4, 8)
_TRAIN, _TEST = 6000, 1000
_SHIFT = 4.0
_BRIEFLY = 12
_COMMON: tuple[str, ...] = (
    f"--resolution={RESOLUTION}",
    "--batch_size=32",
    "--warmup_images=640",
    "--ema_half_life=500",
)
_COMMON += ("--sample_every=0", "--checkpoint_every=0", "--model.max_width=32", "--model.latent_size=8")
# A latent of 128 numbers for 256 pixels, and little noise: nearly all detail passes. One Gaussian doesn't fit so many
# numbers: with it, samples lose power that reconstructions have.
_WIDE = ("--model.latent_channels=2", "--model.variance=0.002", "--model.lr=2e-3", "--model.prior=mixture")
# As many numbers before 16 codes an image; of more codes, so small a prior makes samples that are wrong by themselves.
_FEW_CODES = (
    "--model.codes=4",
    "--model.latent_size=4",
    "--model.code_channels=8",
    "--model.lr=2e-3",
    "--model.prior_width=32",
    "--model.prior_layers=1",
)


class Fault(NamedTuple):
    """`cause`: what the diagnosis should name first; `data` and `make`: what the model is trained on, and how."""

    cause: str
    make: Callable[[Any, str, Path], None]
    blurred: bool = False
    incomplete: bool = False


class Job(NamedTuple):
    """One model: where its data lie, the images that it sees, and its seed."""

    data: Path
    images: int
    seed: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's settings."""
    parser.add_argument("--data", default="glyphs", help="labelled, as `hfgen train` takes it (%(default)s)")
    parser.add_argument("--budget", choices=("small", "full"), default="small", help="of the diagnoses (%(default)s)")
    parser.add_argument("--faults", nargs="+", choices=list(FAULTS), default=list(FAULTS), help="(all)")
    parser.add_argument("--seeds", type=int, default=3, help="models of each fault (%(default)s)")
    parser.add_argument(
        "--images", type=int, default=16_000, help="that a model sees; GAN and VQ-VAE, twice (%(default)s)"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/faults"), help="folder of the models (%(default)s)")
    parser.add_argument("--check", action="store_true", help="exit 1 where the bar is missed")


def run(arguments: argparse.Namespace) -> int:
    """Train, diagnose, print the confusion table; returns the exit code."""
    data = arguments.out / "data"
    if not (data / "complete").is_dir():
        _write_data(arguments.data, data)
    named: dict[str, list[str]] = {}
    print("| planted | seed | named first | score | then | seconds |\n|---|---|---|---|---|---|")
    for name in arguments.faults:
        for seed in range(arguments.seeds):
            started = time.perf_counter()
            ranking = _diagnose(name, Job(data, arguments.images, seed), arguments.budget, arguments.out)
            first, rest = ranking[0], ", ".join(f"{row['cause']} {row['score']:.2f}" for row in ranking[1:3])
            named.setdefault(name, []).append(first["cause"])
            took = time.perf_counter() - started
            print(f"| {name} | {seed} | {first['cause']} | {first['score']:.2f} | {rest} | {took:.0f} |", flush=True)
    return int(_confusion(named) and arguments.check)


def _confusion(named: dict[str, list[str]]) -> bool:
    """Print how often which cause was named, and the bar; whether it was missed."""
    columns = sorted({cause for causes in named.values() for cause in causes})
    print(f"\n| planted | should be | {' | '.join(columns)} |\n|{'---|' * (2 + len(columns))}")
    for name, causes in named.items():
        print(f"| {name} | {FAULTS[name].cause} | {' | '.join(str(causes.count(cause)) for cause in columns)} |")
    wrong = sum(cause != FAULTS[name].cause for name, causes in named.items() for cause in causes)
    print(f"{'missed' if wrong else 'held'}: every planted cause is named first ({wrong} of them aren't)")
    return wrong > 0


def _diagnose(name: str, job: Job, budget: str, out: Path) -> list[dict[str, Any]]:
    """The ranking of one model's diagnosis, from `out` where it is there."""
    from hfgen.diagnosis.diagnose import diagnose
    from hfgen.documents import DIAGNOSIS

    fault, folder = FAULTS[name], out / f"{name}-{job.seed}"
    if not (folder / "pretrained").is_dir():
        kind = "blurred" if fault.blurred else "incomplete" if fault.incomplete else "complete"
        fault.make(job, str(job.data / kind), folder)
    done = folder / f"diagnosis-{budget}"
    if (done / "diagnosis.json").is_file():
        return DIAGNOSIS.read(done / "diagnosis.json")["ranking"]
    data = str(job.data / ("blurred" if fault.blurred else "complete"))
    return diagnose(folder, data, out=done, budget=budget, seed=job.seed)["ranking"]  # type: ignore[arg-type]


def _train(recipe: str, *overrides: str, job: Job, data: str, out: Path, images: int | None = None) -> None:
    from hfgen.configs import load_config
    from hfgen.training.train import train

    own = (f"--data={data}", f"--seed={job.seed}", f"--max_images={images or job.images}", f"--log_every={job.images}")
    train(load_config(f"{recipe}-glyphs", [*_COMMON, *own, *overrides]), out)


def _recipe(recipe: str, *overrides: str, rounds: int = 1) -> Callable[[Job, str, Path], None]:
    """A fault that is a setting."""

    def make(job: Job, data: str, out: Path) -> None:
        _train(recipe, *overrides, job=job, data=data, out=out, images=rounds * job.images)

    return make


def _changed(change: Callable[[Any, Job, str], None], job: Job, data: str, out: Path) -> None:
    """A fault that is made in a healthy VAE after its training, kept beside it."""
    import hfgen
    from hfgen.files import atomic_folder

    healthy = out.with_name(f"healthy-{job.seed}")
    if not (healthy / "pretrained").is_dir():
        _train("vae", *_WIDE, job=job, data=data, out=healthy)
    pipeline = hfgen.load(healthy)
    change(pipeline, job, data)
    with atomic_folder(out / "pretrained") as folder:
        pipeline.save_pretrained(folder)


def _forget_decoder(pipeline: Any, job: Job, data: str) -> None:
    """The decoder's weights anew, and a few steps of training."""
    import torch

    from hfgen.autoencoders import Autoencoder
    from hfgen.data import open_store
    from hfgen.diagnosis.budgets import Budget
    from hfgen.diagnosis.refits import refit
    from hfgen.models.initialise import initialise

    vae = pipeline.vae
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(job.seed)
        for module in vae.decoder.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()
        initialise(vae.decoder)
    images = open_store(data, split="train", resolution=RESOLUTION).images
    budget = Budget(images=0, latent_steps=0, refit_steps=_BRIEFLY, refit_batch=32)
    (student,) = refit(Autoencoder(vae), images, "decoder", budget, job.seed, repeats=1)
    vae.load_state_dict(student.network.state_dict())


def _shift_latents(pipeline: Any, job: Job, data: str) -> None:
    """Move the aggregate posterior away from N(0, I), which latents are drawn from; the decoder moves along."""
    import torch

    pipeline.prior, vae = None, pipeline.vae
    channels = vae.config.latent_channels
    with torch.no_grad():
        vae.quant_conv.bias[:channels] += _SHIFT
        vae.post_quant_conv.bias -= _SHIFT * vae.post_quant_conv.weight.sum((1, 2, 3))


FAULTS = {
    "latent of 2": Fault("bottleneck", _recipe("vae", *_WIDE, "--model.latent_size=1", "--model.latent_channels=2")),
    "KL x 200": Fault("noise", _recipe("vae", *_WIDE, "--model.kl_weight=200")),
    "brief decoder": Fault("decoder", partial(_changed, _forget_decoder)),
    "4 codes": Fault("codes", _recipe("vqvae", *_FEW_CODES, rounds=2)),
    "shifted latents": Fault("prior", partial(_changed, _shift_latents)),
    "3 classes left out": Fault(
        "modes", _recipe("gan", "--model.latent_size=2", "--model.latent_channels=4", rounds=2), incomplete=True
    ),
    "upscaled data": Fault("data", _recipe("vae", *_WIDE), blurred=True),
    "healthy VAE-GAN": Fault("sharp", _recipe("vaegan", *_WIDE)),
}


def _write_data(data: str, folder: Path) -> None:
    """`complete`; `incomplete`, whose train split lacks three classes; `blurred`: halved and upscaled again."""
    import torch

    from hfgen.data import open_store
    from hfgen.files import atomic_folder

    for split, most in (("train", _TRAIN), ("test", _TEST)):
        store = open_store(data, split=split, resolution=RESOLUTION, channels=1)
        images, labels = _first(store, most)
        left_out = torch.isin(labels, torch.tensor(LEFT_OUT)) & (split == "train")
        kinds = {"incomplete": (images[~left_out], labels[~left_out]), "blurred": (_upscaled(images), labels)}
        for kind, (pictures, classes) in {**kinds, "complete": (images, labels)}.items():
            with atomic_folder(folder / f"{kind}-{split}") as temporary:
                _write_split(pictures, classes, temporary / f"{split}.parquet")
    for kind in ("blurred", "incomplete", "complete"):
        with atomic_folder(folder / kind) as temporary:
            for split in ("train", "test"):
                (folder / f"{kind}-{split}" / f"{split}.parquet").rename(temporary / f"{split}.parquet")


def _first(store: ImageStore, most: int) -> tuple[Tensor, Tensor]:
    """The first images of the first ten classes."""
    if store.labels is None:
        raise SystemExit("data: it has no labels; give labelled data")
    rows = ((store.labels >= 0) & (store.labels < CLASSES)).nonzero()[:most, 0]
    return store.gather(rows), store.labels[rows]


def _upscaled(images: Tensor) -> Tensor:
    from torch.nn.functional import interpolate

    small = interpolate(images.float(), scale_factor=0.5, mode="area")
    large = interpolate(small, scale_factor=2, mode="bilinear")
    return large.round().clamp(0, 255).to(images.dtype)


def _write_split(images: Tensor, labels: Tensor, path: Path) -> None:
    from datasets import ClassLabel, Dataset, Features, Image

    from hfgen.images import to_pil

    features = Features({"image": Image(), "label": ClassLabel(num_classes=CLASSES)})
    Dataset.from_dict({"image": to_pil(images), "label": labels.tolist()}, features=features).to_parquet(path)
