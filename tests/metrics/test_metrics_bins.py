import math
from statistics import mean

import pytest
import torch
from scipy.spatial.distance import jensenshannon

from hfgen.errors import UserError
from hfgen.metrics import ndb
from hfgen.metrics.bins import _different, _divergence, _shares


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def cells(shares: torch.Tensor, count: int, seed: int) -> torch.Tensor:
    return shares.multinomial(count, replacement=True, generator=torch.Generator().manual_seed(seed))


def test_clusters_that_are_dropped_differ_in_every_bin_that_loses_or_gains() -> None:
    centres = 50 * normal(10, 4)
    training, real, fake = (
        centres[torch.arange(1000) % k] + normal(1000, 4, seed=i) for i, k in enumerate((10, 10, 5))
    )
    found = ndb(real, fake, training, bins=10, seed=0)
    assert found.different.value == found.different.high == 10 and found.different.low > 9.9
    p, q = [0.1] * 10, [0.2] * 5 + [0] * 5
    assert found.jsd.value == pytest.approx(jensenshannon(p, q) ** 2, abs=0.01)


def test_the_divergence_is_scipys_square() -> None:
    p, q = torch.tensor([0.5, 0.5, 0.0]).double(), torch.tensor([0.1, 0.2, 0.7]).double()
    assert _divergence(p, q) == pytest.approx(jensenshannon(p.numpy(), q.numpy()) ** 2)
    assert _divergence(p, p) == 0


def test_no_overlap_is_the_log_of_2() -> None:
    assert _divergence(torch.tensor([1.0, 0]).double(), torch.tensor([0.0, 1]).double()) == pytest.approx(math.log(2))


def test_equal_distributions_differ_in_5_percent_of_the_bins() -> None:
    shares = torch.softmax(normal(50), 0)
    counts = [_different(cells(shares, 4000, i), cells(shares, 3000, 1000 + i), 50).value for i in range(100)]
    assert mean(counts) == pytest.approx(0.05 * 50, abs=0.7)


@pytest.mark.parametrize("change", [0.0, 0.3])
def test_the_interval_of_their_number_holds_its_mean(change: float) -> None:
    shares = torch.softmax(normal(50), 0)
    others = torch.softmax(normal(50) + change * normal(50, seed=1), 0)
    found = [_different(cells(shares, 2000, i), cells(others, 2000, 1000 + i), 50) for i in range(200)]
    truth = mean(estimate.value for estimate in found)
    assert sum(e.low <= truth <= e.high for e in found) / 200 >= 0.9


@pytest.mark.parametrize("change", [0.0, 0.5])
def test_the_divergence_is_free_of_bias_and_its_interval_holds_it(change: float) -> None:
    from hfgen.metrics.intervals import debiased_estimate

    shares = torch.softmax(normal(20), 0)
    others = torch.softmax(normal(20) + change * normal(20, seed=1), 0)
    truth, held, values = _divergence(shares, others), 0, []
    for seed in range(200):
        sets = cells(shares, 1000, seed), cells(others, 1000, 1000 + seed)
        estimate = debiased_estimate(lambda x, y: _divergence(_shares(x, 20), _shares(y, 20)), *sets, seed=seed)
        held += estimate.low <= truth <= estimate.high
        values.append(estimate.value)
    assert held / 200 >= 0.9
    assert mean(values) == pytest.approx(truth, abs=5e-4)


def test_equal_distributions_have_a_divergence_of_0_in_bins_of_other_images() -> None:
    training = normal(500, 64)
    found = [ndb(normal(500, 64, seed=i + 1), normal(500, 64, seed=99 - i), training, 50, seed=0) for i in range(20)]
    values = torch.tensor([each.jsd.value for each in found], dtype=torch.float64)
    assert abs(float(values.mean())) < 3 * float(values.std()) / 20**0.5
    assert sum(each.jsd.low <= 0 <= each.jsd.high for each in found) >= 17
    # In bins of the real images themselves it isn't.
    real, fake = normal(500, 64, seed=1), normal(500, 64, seed=99)
    assert ndb(real, fake, real, 50, seed=0).jsd.low > 0


def test_bins_depend_on_the_seed_alone_and_not_on_scale() -> None:
    training, real, fake = normal(300, 3, seed=2), normal(400, 3), normal(300, 3, seed=1) * 0.7
    first = ndb(real, fake, training, bins=20, seed=3)
    torch.rand(3)
    assert ndb(real, fake, training, bins=20, seed=3) == first
    scale = torch.tensor([4.0, 0.25, 2.0]).double()
    assert ndb(real * scale, fake * scale, training * scale, bins=20, seed=3) == first
    assert first.different.n == 300 and 0 <= first.different.low <= first.different.value <= first.different.high <= 20


def test_identical_sets_differ_nowhere() -> None:
    x = normal(300, 4)
    found = ndb(x, x, normal(300, 4, seed=1), bins=30, seed=0)
    assert found.different.value == 0 and found.jsd.low <= 0


def test_sets_without_bins_are_refused() -> None:
    x = normal(50, 3)
    for real, fake, training, bins, field in (
        (x, x, x, 1, "bins: 1"),
        (x, x, x, 6, "bins: 6 for 50 training images leave too few in each; give at most 5"),
        (x, x[:3], x, 5, "fake: 3 images"),
        (x, x, x * 0, 2, "bins: 2 of only 1 different training images"),
        (x * math.inf, x, x, 5, "real: NaN or infinity"),
        (x, normal(50, 2), x, 5, "fake: 2 features"),
        (x, x, normal(50, 2), 5, "training: 2 features"),
    ):
        with pytest.raises(UserError, match=field):
            ndb(real, fake, training, bins, seed=0)
