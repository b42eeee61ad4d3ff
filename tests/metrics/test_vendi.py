"""The Vendi score of sets whose number of kinds is known."""

import pytest
import torch

from hfgen.errors import UserError
from hfgen.metrics import vendi_interval, vendi_score


def test_it_counts_kinds():
    assert vendi_score(torch.ones(7, 3)) == pytest.approx(1)
    assert vendi_score(torch.eye(5).repeat(4, 1)) == pytest.approx(5)
    # Shares of 1/2, 1/4, 1/4 have an entropy of 1.5 bits.
    assert vendi_score(torch.eye(3)[[0, 0, 1, 2]]) == pytest.approx(2**1.5)


def test_lengths_of_features_do_not_matter():
    rows = torch.randn(20, 6, generator=torch.Generator().manual_seed(0))
    scaled = rows * torch.rand(20, 1, generator=torch.Generator().manual_seed(1)).add(0.1)
    assert vendi_score(scaled) == pytest.approx(vendi_score(rows))


def test_it_is_that_of_the_similarity_matrix():
    rows = torch.randn(9, 30, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    unit = rows / rows.norm(dim=1, keepdim=True)
    values = torch.linalg.eigvalsh(unit @ unit.T / len(unit)).clamp_min(1e-12)
    assert vendi_score(rows) == pytest.approx(float((-values * values.log()).sum().exp()))


def test_the_interval_is_about_as_wide_as_sets_differ():
    generator = torch.Generator().manual_seed(3)
    sets = [torch.randn(400, 4, generator=generator) @ torch.diag(torch.tensor([2.0, 1, 1, 0.5])) for _ in range(60)]
    spread = torch.tensor([vendi_score(each) for each in sets]).std()
    widths = [vendi_interval(each, seed=0) for each in sets[:10]]
    width = sum(found.high - found.low for found in widths) / len(widths)
    assert width / (2 * 1.96) == pytest.approx(float(spread), rel=0.35)


def test_bad_features_are_refused():
    with pytest.raises(UserError, match="features"):
        vendi_score(torch.tensor([[float("nan")]]))
    with pytest.raises(UserError, match="features"):
        vendi_interval(torch.ones(3, 2), seed=0)
