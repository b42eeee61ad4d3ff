"""Faults that are planted in what lies between encoder and decoder, in its prior, and in sets of samples."""

import io
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from plants import Components, Planted, coloured_glyphs, context, found, smooth_images
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, pad

from hfgen.autoencoders import Autoencoder, Traits
from hfgen.data import draw
from hfgen.diagnosis.gates.bookkeeping import classes, code_order, prior_of_codes, prior_of_latents
from hfgen.diagnosis.gates.context import Context
from hfgen.diagnosis.gates.data_history import history
from hfgen.diagnosis.gates.detail import detail
from hfgen.diagnosis.gates.latent_scaling import scaling
from hfgen.diagnosis.gates.latent_use import codes as code_use
from hfgen.diagnosis.gates.levels import clipped, invented_colour
from hfgen.diagnosis.gates.sample_set import samples
from hfgen.diagnosis.variety import variety
from hfgen.evaluation.held_out import HeldOut, held_out_images
from hfgen.images import to_float, to_pil
from hfgen.metrics import Collector

SIDE, PATCH, LEVELS = 32, 8, 64
GRID = SIDE // PATCH


@pytest.fixture(scope="module")
def held_out() -> Tensor:
    return coloured_glyphs("test", 96)


@pytest.fixture(scope="module")
def training() -> Tensor:
    return coloured_glyphs("train", 200)


@pytest.fixture(scope="module")
def good(training: Tensor) -> Components:
    return Components(training, 150)


def test_overshoot_that_is_clipped_is_found(good: Components, held_out: Tensor):
    def sharpened(images: Tensor) -> Tensor:
        return images + 8 * (images - avg_pool2d(pad(images, (2, 2, 2, 2), mode="replicate"), 5, 1))

    assert found(context(held_out, network=Planted(good, after=sharpened)), clipped) == {"clipping": "fault"}
    assert found(context(held_out, network=good), clipped) == {}


def test_colour_of_grey_images_is_found(good: Components):
    grey = draw("glyphs", "test", 0, 96, SIDE).images.repeat(1, 3, 1, 1)
    tinted = Planted(good, after=lambda y: y + torch.tensor([0.1, -0.05, 0])[:, None, None])
    assert found(context(grey, network=tinted), invented_colour) == {"invented_colour": "fault"}
    assert found(context(grey, made=grey), invented_colour) == {}


def test_crisp_detail_of_other_images_is_made_up(held_out: Tensor):
    values = to_float(held_out)
    coarse = avg_pool2d(pad(values, (2, 2, 2, 2), mode="replicate"), 5, 1)
    # Everything coarse is the image's own, everything fine its mirror image's.
    other = coarse + (values - coarse).flip(-1)
    made = ((other.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    assert found(context(held_out, made=made), detail) == {"invented_detail": "fault"}
    assert found(context(held_out, made=held_out), detail) == {}


def test_traces_of_jpeg_are_found():
    def compressed(image: Image.Image) -> Tensor:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=20)
        return torch.frombuffer(bytearray(Image.open(buffer).convert("L").tobytes()), dtype=torch.uint8)

    images = smooth_images(120, 0)
    blocky = torch.stack([compressed(image) for image in to_pil(images)]).reshape(images.shape)
    assert found(context(blocky), history).get("compressed_data") == "warning"
    assert "compressed_data" not in found(context(images), history)


def test_latents_that_the_config_does_not_centre_are_found(training: Tensor, held_out: Tensor):
    plain = Components(training, 12)
    own = plain.encode(to_float(training)).latents
    mean, spread = own.mean((0, 2, 3)).tolist(), own.std((0, 2, 3)).tolist()
    off = [value + 2 * deviation for value, deviation in zip(mean, spread, strict=True)]
    for shift, severity in ((off, "fault"), (mean, None)):
        network = Components(training, 12, latents_mean=shift, latents_std=spread)
        seen = context(held_out, network=network)
        seen.codec.traits = seen.codec.traits._replace(latent_channels=12)
        assert found(seen, scaling).get("shift_factor") == severity


class Noisy(nn.Module):
    """Whitened components with a little posterior noise, moved and scaled as a plant."""

    def __init__(self, training: Tensor, shift: float = 0.0, scale: float = 1.0) -> None:
        super().__init__()
        self.config: dict[str, object] = {}
        self.good, self.shift, self.scale = Components(training, 12), shift, scale
        own = self.good.encode(to_float(training)).latents
        self.mean, self.spread = own.mean(0), own.std(0)

    def encode(self, images: Tensor) -> SimpleNamespace:
        latents = (self.good.encode(images).latents - self.mean) / self.spread * self.scale + self.shift
        return SimpleNamespace(latent_dist=SimpleNamespace(mean=latents, std=torch.full_like(latents, 0.1)))

    def decode(self, latents: Tensor) -> SimpleNamespace:
        return self.good.decode((latents - self.shift) / self.scale * self.spread + self.mean)


@pytest.mark.parametrize(("shift", "scale", "severity"), [(0, 1, None), (3, 1, "fault"), (0, 4, "fault")])
def test_latents_away_from_the_prior_are_found(
    shift: float, scale: float, severity: str | None, training: Tensor, held_out: Tensor
):
    network = Noisy(training, shift, scale)
    pipeline = SimpleNamespace(can_sample=True, codebook_size=None, family="vae")
    assert found(context(held_out, network=network, pipeline=pipeline), prior_of_latents).get("prior") == severity


class Patches(nn.Module):
    """The brightness of each patch as one of some codes: a codebook whose right use is known."""

    def __init__(self, order: Tensor | None = None) -> None:
        super().__init__()
        self.config = {"num_vq_embeddings": LEVELS}
        self.levels = nn.Parameter(torch.linspace(-1, 1, LEVELS), False)
        self.order = torch.arange(LEVELS) if order is None else order

    def codes(self, images: Tensor) -> Tensor:
        latents = avg_pool2d(images, PATCH)
        return self.order[((latents[:, 0] + 1) / 2 * (LEVELS - 1)).round().long()].flatten(1)

    def from_codes(self, codes: Tensor) -> Tensor:
        grid = self.levels[self.order.argsort()[codes]].unflatten(1, (GRID, GRID))[:, None]
        return grid.repeat_interleave(PATCH, -1).repeat_interleave(PATCH, -2)

    def encode(self, images: Tensor) -> SimpleNamespace:
        return SimpleNamespace(latents=avg_pool2d(images, PATCH))

    def decode(self, latents: Tensor) -> SimpleNamespace:
        return SimpleNamespace(
            sample=self.from_codes(self.codes(latents.repeat_interleave(PATCH, -1).repeat_interleave(PATCH, -2)))
        )


class Counted(nn.Module):
    """A prior of which code follows which, by counting; its start is one code more."""

    def __init__(self, codes: Tensor) -> None:
        super().__init__()
        counts = torch.full((LEVELS + 1, LEVELS), 0.1)
        pairs = torch.cat([torch.full_like(codes[:, :1], LEVELS), codes], 1)
        counts.index_put_((pairs[:, :-1].flatten(), pairs[:, 1:].flatten()), torch.ones(codes.numel()), accumulate=True)
        self.table = nn.Parameter((counts / counts.sum(1, keepdim=True)).log(), False)

    def forward(self, input_ids: Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=self.table[input_ids])


def rows_of_steps(count: int, seed: int) -> Tensor:
    """Grey images whose patches brighten step by step along each row, and say nothing about the next row."""
    levels = torch.randint(LEVELS, (count, 1, GRID, 1), generator=torch.Generator().manual_seed(seed))
    images = ((levels + torch.arange(GRID)) % LEVELS * 255 / (LEVELS - 1)).round()
    return images.repeat_interleave(PATCH, -1).repeat_interleave(PATCH, -2).to(torch.uint8)


def of_codes(images: Tensor, network: Patches, prior: Counted | None = None, decode=None) -> Context:
    """A pipeline of such codes; its decoder of codes is `decode`."""
    facts = {"channels": 1, "frames": False, "unit_range": False, "factor": PATCH, "side": SIDE}
    traits = Traits(**facts, latent_channels=1, gaussian=False, quantised=True, draws=False, batches=True)
    pipeline = SimpleNamespace(
        codes=network.codes,
        codebook_size=LEVELS,
        num_classes=0,
        family="vqvae",
        prior=prior,
        device=torch.device("cpu"),
    )
    pipeline._decode_codes = decode or network.from_codes
    return Context(images=images, network=Autoencoder(network, traits), pipeline=pipeline)


def transposed(codes: Tensor) -> Tensor:
    return codes.unflatten(1, (GRID, GRID)).mT.flatten(1)


def test_codes_in_another_order_are_found():
    network, images = Patches(), draw("glyphs", "test", 0, 60, SIDE).images
    assert found(of_codes(images, network), code_order) == {}
    turned = of_codes(images, network, decode=lambda codes: network.from_codes(transposed(codes)))
    assert found(turned, code_order) == {"codes_mixed_up": "fault"}


def test_a_prior_of_another_codebook_or_order_is_found():
    network, training, images = Patches(), to_float(rows_of_steps(400, 0)), rows_of_steps(96, 1)
    own = network.codes(training)
    other = torch.randperm(LEVELS, generator=torch.Generator().manual_seed(0))
    assert found(of_codes(images, network, Counted(own)), prior_of_codes) == {}
    assert found(of_codes(images, network, Counted(other[own])), prior_of_codes).get("prior") == "fault"
    # Down the columns of such images, and a prior that was trained column by column.
    turned = Counted(transposed(network.codes(training.mT)))
    assert found(of_codes(images.mT, network, turned), prior_of_codes).get("codes_transposed") == "fault"


def test_dead_codes_are_found():
    images = rows_of_steps(96, 1)
    assert found(of_codes(images, Patches()), code_use) == {}
    dark = (images.float() * 0.02).to(torch.uint8)
    assert found(of_codes(dark, Patches()), code_use) == {"dead_codes": "fault"}


@pytest.mark.parametrize(("order", "severity"), [([0, 1, 2, 3], None), ([1, 2, 3, 0], "fault")])
def test_exchanged_classes_are_found(order: list[int], severity: str | None):
    def drawn(count: int, generators, output_type: str, class_labels: list[int]) -> SimpleNamespace:
        levels = torch.tensor([order[label] / 3 for label in class_labels])
        return SimpleNamespace(images=levels[:, None, None, None].expand(-1, 1, SIDE, SIDE))

    class Pipeline(SimpleNamespace):
        __call__ = staticmethod(drawn)

    judge = SimpleNamespace(mode_counts=torch.ones(4), accuracy=0.99)
    judge.modes = lambda images: (images.float().mean((1, 2, 3)) / 255 * 3).round().long()
    seen = Context(images=rows_of_steps(20, 0), pipeline=Pipeline(num_classes=4, family="vae"))
    seen.held_out = SimpleNamespace(extractor=judge)
    name = {"classes_mixed_up": severity} if severity else {}
    assert found(seen, classes) == name
    if severity:
        assert "labels are permuted" in seen.earlier("classes_mixed_up").text


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> HeldOut:
    folder = tmp_path_factory.mktemp("data")
    for split in ("train", "test"):
        (folder / split).mkdir()
        for index, image in enumerate(to_pil(draw("glyphs", split, 0, 200, 16).images)):
            image.save(folder / split / f"{index:03d}.png")
    return held_out_images(str(folder), resolution=16, channels=1, extractor="pixels")


def of_samples(real: HeldOut, made: Tensor) -> Context:
    from hfgen.evaluation.set_metrics import baseline

    seen, known = variety(real, made, 0, Collector()).estimates, baseline(real).estimates
    return Context(images=real.images, samples=made, held_out=real, variety=seen, baseline=known)


def one_letter(real: HeldOut) -> Tensor:
    glyphs = draw("glyphs", "train", 5000, 2500, 16)
    return glyphs.images[glyphs.labels == int(glyphs.labels[0])]


SETS: dict[str, Callable[[HeldOut], Tensor]] = {
    "duplicates": lambda real: draw("glyphs", "train", 900, 20, 16).images.repeat(10, 1, 1, 1),
    "copies": lambda real: real.training.gather(torch.arange(200)),
    "coverage": one_letter,
}


@pytest.mark.parametrize("name", SETS)
def test_samples_of_too_few_kinds_are_found(name: str, real: HeldOut):
    assert name in found(of_samples(real, SETS[name](real)), samples)


def test_new_images_are_healthy_samples(real: HeldOut):
    assert found(of_samples(real, draw("glyphs", "train", 900, 200, 16).images), samples) == {}
