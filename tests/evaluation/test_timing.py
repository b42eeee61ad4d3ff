"""Costs are measured after warm-up, image by image, of what a model can do."""

import time
from typing import Any

import psutil
import pytest
import torch

from hfgen import load
from hfgen.errors import UserError
from hfgen.evaluation import timing
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


WARM_UP, REPEATS = 2, 3


class Slow:
    """Its calls are counted, and tell the clock; the first ones are the slow ones of a warm-up."""

    device, channels, sample_size, paired_with = torch.device("cpu"), 1, 16, ("drawing", 2)
    can_sample, can_reconstruct = False, True

    def __init__(self) -> None:
        self.shapes: list[Any] = []
        self.clock = 0.0
        self.looks = 0

    def set_progress_bar_config(self, **options: Any) -> None:
        pass

    def reconstruct(self, images: torch.Tensor, output_type: str) -> None:
        self.shapes.append(tuple(images.shape))
        self.clock += 10.0 if len(self.shapes) <= WARM_UP else 0.5
        self.held = torch.ones(50_000_000, dtype=torch.uint8)
        if len(self.shapes) > WARM_UP + REPEATS:
            # The memory is looked at from another thread, which may have to wait for a core.
            seen, until = self.looks, time.monotonic() + 60
            while self.looks < seen + 2 and time.monotonic() < until:
                time.sleep(0.001)
        self.held = None


def test_warm_up_does_not_count_and_memory_is_seen(monkeypatch: pytest.MonkeyPatch):
    slow = Slow()

    class Counted(psutil.Process):
        def memory_info(self) -> Any:
            slow.looks += 1
            return super().memory_info()

    monkeypatch.setattr(timing.psutil, "Process", Counted)
    monkeypatch.setattr(timing, "_now", lambda device: slow.clock)
    costs = measure_costs(slow, batch_size=2, repeats=REPEATS)  # type: ignore[arg-type]
    spread = {"median": 250.0, "lowest": 250.0, "highest": 250.0}
    assert costs["reconstruction"]["milliseconds_per_image"] == spread
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
