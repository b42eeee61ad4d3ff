"""Checkpoints changed at random: each is opened and drawn from, or refused in one line; never a traceback or a hang."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import hfgen
from hfgen.errors import UserError

SECONDS, MEMORY = 60, 6 * 2**30
VALUES: list[Any] = [
    *(None, True, False, 0, -1, 1, 2, 3, 7, 10**9, 2**63, 10**30, 1.5, -0.5, float("nan"), float("inf"), 1e308),
    *("", "x", "32", "..", "\ud800", [], [1], [[]], [None], ["a", "b"], {}, {"a": 1}, [10**9] * 3),
]
TEXTS = [b"", b"{", b"[" * 100_000, b"1" * 5000, b"\xef\xbb\xbf{}", b"\x00" * 64, b"\xff\xfe", b"[]", b"null", b"3"]
WEIGHTS = [
    *(b"", b"\x00" * 7, b"\xff" * 64, (2**60).to_bytes(8, "little") + b"{}", (2).to_bytes(8, "little") + b"{}"),
    *(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", b"<html>404</html>", b"PK\x03\x04" + bytes(64)),
]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A small untrained checkpoint of each kind."""
    from diffusers import AutoencoderKL, AutoencoderTiny, VQModel

    from hfgen.families.gan import GAN
    from hfgen.families.pix2pix import Pix2Pix
    from hfgen.families.vae import VAE
    from hfgen.families.vqvae import VQVAE
    from hfgen.models.hfgen_dcgan_v1 import DCGANGenerator
    from hfgen.models.hfgen_r3gan_v1 import R3Generator
    from hfgen.pipelines import GANPipeline

    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("checkpoints")
    small = {"width": 16, "max_width": 16}
    families = {
        "vae": VAE(latent_channels=4, prior="gaussian", **small),
        "normal": VAE(latent_channels=4, prior="normal", **small),
        "vqvae": VQVAE(codes=16, width=16, max_width=16, prior_width=16, prior_layers=1, prior_heads=2),
        "gan": GAN(latent_channels=4, discriminator_width=8, discriminator_max_width=16, **small),
        "pix2pix": Pix2Pix(objective="l1", **small),
    }
    for name, family in families.items():
        family.pipeline(family.build(16 if name == "pix2pix" else 8, 1)).save_pretrained(root / name)
    generator = R3Generator(1, (16, 16), layers_per_block=1, latent_channels=4, sample_size=8)
    GANPipeline(generator).save_pretrained(root / "r3")
    GANPipeline(DCGANGenerator(1, (16,), 4, 8)).save_pretrained(root / "dcgan")
    blocks = {"block_out_channels": (8, 8), "norm_num_groups": 4, "latent_channels": 4, "sample_size": 8}
    types = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    kl = AutoencoderKL(**blocks, **types)
    kl.save_pretrained(root / "kl")
    kl.half().save_pretrained(root / "fp16", variant="fp16")
    kl.save_pretrained(root / "shards", max_shard_size="10KB")
    kl.save_pretrained(root / "pipeline" / "vae")
    index = {
        "_class_name": "StableDiffusionPipeline",
        "vae": ["diffusers", "AutoencoderKL"],
        "unet": ["diffusers", "U"],
    }
    (root / "pipeline" / "model_index.json").write_text(json.dumps(index))
    VQModel(num_vq_embeddings=8, **blocks, **types).save_pretrained(root / "vq")
    widths = {"encoder_block_out_channels": (8, 8), "decoder_block_out_channels": (8, 8)}
    AutoencoderTiny(num_encoder_blocks=(1, 1), num_decoder_blocks=(1, 1), **widths).save_pretrained(root / "tiny")
    return sorted(root.iterdir())


def leaves(value: Any, path: tuple = ()) -> Iterator[tuple]:
    """The paths of all values inside a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from leaves(item, (*path, key))


def change_value(folder: Path, draw: random.Random) -> str:
    """Another value in one of the JSON files, or one less or more."""
    path = draw.choice([path for path in sorted(folder.rglob("*.json")) if path.is_file()])
    value = json.loads(path.read_text())
    *parents, last = draw.choice(list(leaves(value)))
    inner = value
    for key in parents:
        inner = inner[key]
    old, kind = inner[last], draw.randrange(8)
    if kind == 0:
        del inner[last]
    elif kind == 1:
        value[draw.choice(["quantization_config", "dtype", "auto_map", "extra", "_name_or_path"])] = draw.choice(VALUES)
    else:
        others = [-old, old * 1000, old + 1, str(old), [old]] if isinstance(old, int | float) else [[old], {"a": old}]
        inner[last] = draw.choice(VALUES if kind < 6 else others)
    path.write_text(json.dumps(value))
    return f"{path.name} {(*parents, last)} {old!r} -> {inner.get(last) if isinstance(inner, dict) else inner!r}"


def change_bytes(folder: Path, draw: random.Random) -> str:
    """Damage in a JSON file or in the weights."""
    path = draw.choice(sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".py"))
    content, kind = bytearray(path.read_bytes()), draw.randrange(6)
    if kind == 0:
        content = content[: draw.randrange(len(content))]
    elif kind == 1:
        content += bytes(draw.randrange(1, 100))
    elif kind < 4:
        for _ in range(draw.choice([1, 3, 30])):
            content[draw.randrange(min(len(content), draw.choice([16, 600, 10**9])))] = draw.randrange(256)
    else:
        content = bytearray(draw.choice(TEXTS if path.suffix == ".json" else WEIGHTS))
    path.write_bytes(content)
    return f"{path.name} bytes, kind {kind}"


def change_tensor(folder: Path, draw: random.Random) -> str:
    """Another type, shape or name of a tensor, in a file that is whole."""
    path = draw.choice(sorted(folder.rglob("*.safetensors")))
    tensors = load_file(path)
    name = draw.choice(sorted(tensors))
    old = tensors[name]
    changes: list[Callable[[torch.Tensor], torch.Tensor]] = [
        *(lambda x, dtype=dtype: x.to(dtype) for dtype in (torch.int8, torch.int64, torch.bool, torch.float64)),
        *(lambda x, dtype=dtype: x.to(dtype) for dtype in (torch.bfloat16, torch.float8_e4m3fn)),
        *(torch.flatten, lambda x: x[None], lambda x: x[:0], lambda x: x * torch.nan, lambda x: torch.cat([x, x])),
    ]
    kind = draw.randrange(len(changes) + 2)
    if kind < len(changes):
        tensors[name] = changes[kind](old).contiguous()
    else:
        tensors.pop(name)
        if kind > len(changes):
            tensors[draw.choice(["surprise", "..", ""])] = old
    save_file(tensors, path, metadata={"format": "pt"})
    return f"{path.name} {name} {tuple(old.shape)}, kind {kind}"


def change_files(folder: Path, draw: random.Random) -> str:
    """A file or a folder less, or one where the other should be."""
    path = draw.choice(sorted(path for path in folder.rglob("*") if path.suffix != ".py"))
    kind = draw.randrange(3)
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    if kind == 1:
        path.mkdir()
    elif kind == 2:
        path.write_bytes(b"x")
    return f"{path.name} removed, kind {kind}"


CHANGES = [change_value] * 6 + [change_bytes] * 2 + [change_tensor] * 2 + [change_files]


@contextlib.contextmanager
def limited() -> Iterator[None]:
    """A bound on time and on memory, where the system has them."""
    resource = pytest.importorskip("resource")
    if not Path("/proc/self/statm").exists():
        pytest.skip("no /proc: how much memory is taken isn't known")
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)

    def stop(*_: object) -> None:
        raise TimeoutError(f"more than {SECONDS} s")

    handler = signal.signal(signal.SIGALRM, stop)
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, before[1]))
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, handler)
        resource.setrlimit(resource.RLIMIT_AS, before)


def open_and_draw(folder: Path) -> str:
    """`drawn`, or the line that refuses; anything else is raised."""
    try:
        pipe = hfgen.load(folder)
        if pipe.can_sample:
            pipe(batch_size=1, generator=torch.Generator().manual_seed(0), output_type="pt")
        else:
            channels = pipe.channels + (pipe.paired_with[1] if pipe.paired_with else 0)
            side = min(pipe.sample_size, 32) if pipe.any_size else pipe.sample_size
            pipe.reconstruct(torch.zeros(1, channels, side, side), output_type="pt")
    except (UserError, ValueError) as refusal:
        # A draw's own refusals are ValueErrors, which `hfgen sample` prints in a line.
        assert isinstance(refusal, UserError) or str(refusal).startswith("prior: it gives non-finite"), refusal
        assert "\n" not in str(refusal), str(refusal)
        assert len(str(refusal)) < 1000, str(refusal)
        return str(refusal)
    return "drawn"


def fuzz(checkpoints: list[Path], tmp_path: Path, seeds: range) -> dict[str, int]:
    """How many changed checkpoints ended how; what is neither drawn from nor refused fails, and says its seed."""
    ended = {"drawn": 0, "refused": 0}
    wrong = []
    for seed in seeds:
        draw = random.Random(seed)
        base = draw.choice(checkpoints)
        folder = tmp_path / "changed"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(base, folder)
        what = draw.choice(CHANGES)(folder, draw)
        try:
            with limited():
                ended["drawn" if open_and_draw(folder) == "drawn" else "refused"] += 1
        except Exception as error:
            wrong.append(f"seed {seed}: {base.name}: {what}: {type(error).__name__}: {str(error)[:300]}")
    assert not wrong, f"{len(wrong)} of {len(seeds)}:\n" + "\n".join(wrong)
    return ended


def test_the_checkpoints_are_sound(checkpoints: list[Path]):
    assert len(checkpoints) == 13
    for folder in checkpoints:
        assert open_and_draw(folder) == "drawn", folder.name


def test_changed_checkpoints_are_drawn_from_or_refused(checkpoints: list[Path], tmp_path: Path):
    ended = fuzz(checkpoints, tmp_path, range(150))
    # Both happen: nothing is refused out of caution alone.
    assert ended["refused"] > 60 and ended["drawn"] > 15


def test_changed_image_networks_are_run_or_refused(tmp_path: Path):
    """Those of transformers, which judge images and compare features."""
    import transformers

    from hfgen.metrics.backbones import BackboneExtractor

    torch.manual_seed(0)
    config = transformers.ConvNextConfig(hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1])
    transformers.ConvNextModel(config).save_pretrained(tmp_path / "sound")
    settings = {"size": {"height": 32, "width": 32}, "resample": 3, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (tmp_path / "sound" / "preprocessor_config.json").write_text(json.dumps(settings))
    ended, images = {"run": 0, "refused": 0}, torch.zeros(1, 3, 16, 16, dtype=torch.uint8)
    for seed in range(80):
        draw, folder = random.Random(seed), tmp_path / "changed"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(tmp_path / "sound", folder)
        what = draw.choice(CHANGES)(folder, draw)
        try:
            with limited():
                BackboneExtractor(str(folder)).features(images)
            ended["run"] += 1
        except UserError as refusal:
            assert "\n" not in str(refusal), str(refusal)
            ended["refused"] += 1
        except Exception as error:
            raise AssertionError(f"seed {seed}: {what}: {type(error).__name__}: {error}") from error
    assert ended["run"] > 10 and ended["refused"] > 20


@pytest.mark.slow
def test_thousands_of_changed_checkpoints(checkpoints: list[Path], tmp_path: Path):
    fuzz(checkpoints, tmp_path, range(1000, 4000))
