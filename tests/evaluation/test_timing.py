"""Costs are measured after warm-up, image by image, of what a model can do."""

from typing import Any

import pytest
import torch

from hfgen import load
from hfgen.errors import UserError
from hfgen.evaluation.timing import measure_costs
from hfgen.families import FAMILIES
from hfgen.pipelines import ImagePipeline

TINY = {"width": 16, "max_width": 16, "latent_channels": 4}


@pytest.fixture(scope="module")
def pipelines() -> dict[str, ImagePipeline]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        built = {name: FAMILIES[name](**TINY) for name in ("vae", "gan")}
        return {name: family.pipeline(family.build(16, 1)) for name, family in built.items()}


def test_each_kind_of_work_has_a_spread_and_a_peak(pipelines: dict[str, ImagePipeline]):
    costs = measure_costs(pipelines["vae"], batch_size=3, repeats=4)
    assert costs["device"] == "cpu" and costs["threads"] >= 1
    assert (costs["batch_size"], costs["repeats"]) == (3, 4)
    for kind in ("sampling", "reconstruction"):
        for measured in ("milliseconds_per_image", "bytes_per_image"):
            spread = costs[kind][measured]
            assert 0 <= spread["lowest"] <= spread["median"] <= spread["highest"]
        assert costs[kind]["milliseconds_per_image"]["lowest"] > 0
        assert costs[kind]["peak_bytes"] > 10_000_000
    assert "reconstruction" not in measure_costs(pipelines["gan"], batch_size=1, repeats=1)


class Slow:
    """Its calls are counted; the first two are the slow ones of a warm-up."""

    device, channels, sample_size, paired_with = torch.device("cpu"), 1, 16, ("drawing", 2)
    can_sample, can_reconstruct = False, True

    def __init__(self) -> None:
        self.shapes: list[Any] = []

    def set_progress_bar_config(self, **options: Any) -> None:
        pass

    def reconstruct(self, images: torch.Tensor, output_type: str) -> None:
        self.shapes.append(tuple(images.shape))
        self.held = torch.ones(50_000_000, dtype=torch.uint8)
        if len(self.shapes) <= 2:
            import time

            time.sleep(0.2)
        self.held = None


def test_warm_up_does_not_count_and_memory_is_seen():
    slow = Slow()
    costs = measure_costs(slow, batch_size=2, repeats=3)  # type: ignore[arg-type]
    assert costs["reconstruction"]["milliseconds_per_image"]["highest"] < 90
    assert costs["reconstruction"]["bytes_per_image"]["median"] > 10_000_000
    assert set(slow.shapes) == {(2, 3, 16, 16)}
    assert "sampling" not in costs


@pytest.mark.parametrize("option", ["batch_size", "repeats"])
def test_nothing_to_time_is_refused(option: str, pipelines: dict[str, ImagePipeline]):
    with pytest.raises(UserError, match=f"{option}: 0 "):
        measure_costs(pipelines["gan"], **{option: 0})


def test_a_trained_models_costs(trained, family: str):
    pipeline = load(trained)
    costs = measure_costs(pipeline, batch_size=2, repeats=1)
    assert ("sampling" in costs) == pipeline.can_sample
    assert ("reconstruction" in costs) == pipeline.can_reconstruct
