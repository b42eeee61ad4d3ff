"""The field's own implementations say the same, with random network weights.

`pip install torch-fidelity clean-fid torchmetrics lpips DISTS-pytorch torchvision`, then `pytest -m parity -s`.
"""

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hfgen import metrics
from hfgen.metrics import learned

pytestmark = pytest.mark.parity

SIDE, COUNT, WIDTH = 64, 40, 16


def pictures(seed: int, count: int = COUNT) -> Tensor:
    """Smooth colours with some noise, uint8 (count, 3, SIDE, SIDE)."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 4, 4, generator=generator)
    smooth = nn.functional.interpolate(coarse, (SIDE, SIDE), mode="bicubic")
    noise = 0.1 * torch.rand(count, 3, SIDE, SIDE, generator=generator)
    return (255 * (0.9 * smooth + noise)).clamp(0, 255).to(torch.uint8)


def darker(seed: int) -> Tensor:
    """Others, far enough from those for a distance with digits."""
    return pictures(seed) // 2


def randomise(network: nn.Module) -> None:
    """Weights that keep the size of what passes through them: PyTorch's own would let it vanish."""
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            deviation = (2 / module.weight[0].numel()) ** 0.5
            module.weight.data = deviation * torch.randn(module.weight.shape, generator=generator)
            if module.bias is not None:
                module.bias.data = 0.1 * torch.randn(module.bias.shape, generator=generator)


class Listed(torch.utils.data.Dataset):
    def __init__(self, images: Tensor) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        return self.images[index]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random ones for the network of the FID, as torch-fidelity stores them."""
    fidelity = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    place = tmp_path_factory.mktemp("inception") / "weights.pth"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "load", lambda *_, **__: {})
        patch.setattr(fidelity, "load_state_dict_from_url", lambda *_, **__: {})
        patch.setattr(nn.Module, "load_state_dict", lambda *_, **__: None)
        network = fidelity.FeatureExtractorInceptionV3("inception-v3-compat", ["2048"])
    randomise(network)
    torch.save(network.state_dict(), place)
    return place


@pytest.fixture(scope="module")
def extractor(weights: Path) -> Iterator[metrics.InceptionExtractor]:
    module = importlib.import_module("torch_fidelity.feature_extractor_inceptionv3")
    with pytest.MonkeyPatch.context() as patch:
        # hfgen names no file of weights: the usual ones would be downloaded.
        patch.setattr(module, "load_state_dict_from_url", lambda *_, **__: torch.load(weights))
        yield metrics.InceptionExtractor()


@pytest.fixture(scope="module")
def features(extractor: metrics.InceptionExtractor) -> tuple[Tensor, Tensor]:
    return extractor.features(pictures(0)), extractor.features(darker(1))


def test_fid_and_kid_are_those_of_torch_fidelity(features: tuple[Tensor, Tensor], weights: Path, tmp_path: Path):
    fidelity = pytest.importorskip("torch_fidelity")
    theirs = fidelity.calculate_metrics(
        input1=Listed(pictures(0)),
        input2=Listed(darker(1)),
        cuda=False,
        fid=True,
        kid=True,
        kid_subsets=1,
        kid_subset_size=COUNT,
        verbose=False,
        cache=False,
        feature_extractor_weights_path=str(weights),
    )
    fid = metrics.frechet_distance(*metrics.moments(features[0]), *metrics.moments(features[1]))
    kid = metrics.kernel_distance(*features)
    report("FID, torch-fidelity", fid, theirs["frechet_inception_distance"])
    report("KID, torch-fidelity", kid, theirs["kernel_inception_distance_mean"])
    assert fid == pytest.approx(theirs["frechet_inception_distance"], rel=1e-5)
    # Theirs is of float32 kernels near 1, whose seventh digits are the fifth of the difference.
    assert kid == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-4)


def test_rfid_is_the_plug_in_value_of_clean_fid(features: tuple[Tensor, Tensor]):
    theirs = pytest.importorskip("cleanfid.fid")
    # Of fewer numbers than images: the root of a singular product has half the digits.
    real, made = (part[:, :: 2048 // WIDTH] for part in features)
    x, y = real.numpy(), made.numpy()
    moments = [moment for part in (x, y) for moment in (part.mean(0), np.cov(part, rowvar=False))]
    fid, kid = theirs.frechet_distance(*moments), theirs.kernel_distance(x, y, num_subsets=1, max_subset_size=COUNT)
    _, plug_in = metrics.paired_frechet_distance(real, made, seed=0)
    report("rFID, clean-fid", plug_in.value, fid)
    report("KID, clean-fid", metrics.kernel_distance(real, made), kid)
    assert plug_in.value == pytest.approx(fid, rel=1e-8)
    assert metrics.kernel_distance(real, made) == pytest.approx(kid, rel=1e-8)


@pytest.fixture
def random_backbones(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """torchvision's networks with seeded random weights, whichever weights are asked for."""
    models = pytest.importorskip("torchvision.models")
    for name in ("alexnet", "vgg16"):
        original = getattr(models, name)

        def build(*_: Any, original: Any = original, **__: Any) -> nn.Module:
            network = original(weights=None)
            randomise(network)
            return network

        monkeypatch.setattr(models, name, build)
    learned._network.cache_clear()
    yield
    learned._network.cache_clear()


def test_lpips_is_that_of_torchmetrics_and_of_its_authors(random_backbones: None):
    real, other = pictures(0, 6), pictures(1, 6)
    ours = scores("lpips", real, other)
    module = importlib.import_module("torchmetrics.image.lpip")
    theirs = module.LearnedPerceptualImagePatchSimilarity("alex", normalize=True)
    each = [float(theirs(x[None] / 255, y[None] / 255)) for x, y in zip(real, other, strict=True)]
    report("LPIPS, torchmetrics", ours, torch.tensor(each))
    assert ours == pytest.approx(each, rel=1e-5)
    authors = pytest.importorskip("lpips").LPIPS(net="alex", verbose=False)
    with torch.no_grad():
        original = authors(real / 127.5 - 1, other / 127.5 - 1).flatten()
    report("LPIPS, lpips", ours, original)
    assert ours == pytest.approx(original.tolist(), rel=1e-5)


def test_dists_is_that_of_torchmetrics_and_of_its_authors(random_backbones: None, monkeypatch: pytest.MonkeyPatch):
    dists = pytest.importorskip("torchmetrics.functional.image.dists")
    monkeypatch.setattr(dists, "vgg16", importlib.import_module("torchvision.models").vgg16)
    real, other = pictures(0, 6), pictures(1, 6)
    ours = scores("dists", real, other)
    each = dists.deep_image_structure_and_texture_similarity(real / 255, other / 255, reduction="none")
    report("DISTS, torchmetrics", ours, each)
    assert ours == pytest.approx(each.tolist(), rel=1e-5)
    authors = pytest.importorskip("DISTS_pytorch").DISTS()
    with torch.no_grad():
        original = authors(real / 255, other / 255)
    report("DISTS, DISTS_pytorch", ours, original)
    assert ours == pytest.approx(original.tolist(), rel=1e-5)


def scores(name: str, real: Tensor, other: Tensor) -> list[float]:
    found = metrics.Collector()
    values = metrics.learned_distances(real, other, found)[name]()
    assert not found.notes and values.dtype == torch.float64
    return values.tolist()


def report(name: str, ours: Any, theirs: Any) -> None:
    """The largest relative difference, shown by `pytest -s`."""
    x, y = torch.as_tensor(ours, dtype=torch.float64), torch.as_tensor(theirs, dtype=torch.float64)
    print(f"{name}: {y.flatten()[0]:.9g}, relative difference {((x - y).abs() / y.abs()).max():.1e}")
