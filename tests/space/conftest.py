"""Three tiny models that were never trained, with records, and the Space that shows them in a process of its own."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import begun
from ports import answers, free_port
from tiny import tiny_config

from hfgen.documents import RECORD
from hfgen.files import write_json

CLASSES = 3


def record(family: str, sharpness: float) -> dict[str, Any]:
    """A record as `hfgen evaluate` writes it; its numbers follow from `sharpness`."""

    def near(value: float) -> dict[str, Any]:
        return {"value": value, "low": value - 0.01, "high": value + 0.01, "n": 20}

    names = ("hf_ratio_sample", "precision", "recall", "density", "coverage", "kid")
    metrics = {name: near(sharpness) for name in names}
    bands = [sharpness, sharpness / 2]
    spectrum = {"frequencies": [0.1, 0.4], "real": [1.0, 1.0], "sample": bands}
    if family != "gan":
        metrics |= {"psnr": near(20), "averaging_identity": near(1), "hf_ratio_reconstruction": near(sharpness)}
        metrics |= {"gain_high": near(0.5), "coherence_high": near(0.3)}
        metrics["spectral_distance_reconstruction"] = near(1 - sharpness)
        spectrum |= {"gain": [1.0, 0.5], "coherence": [0.9, 0.3], "power": bands}
        spectrum["reconstruction"] = bands
    return {
        "schema": 2,
        "model": {"id": family, "revision": None, "family": family, "parameters": 1},
        "data": {
            "id": "glyphs",
            "revision": None,
            "split": "test",
            "n": 20,
            "resolution": 16,
            "fingerprint": "0" * 64,
        },
        "protocol": {
            "seed": 0,
            "neighbours": 5,
            "window": "none",
            "extractor": {"id": "embedded", "sha256": "0" * 64, "accuracy": None},
            "versions": {},
        },
        "metrics": metrics,
        "baseline": {name: near(1.0) for name in names},
        "spectrum": spectrum,
    }


@pytest.fixture(scope="session")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with vae, vqvae, gan and `damaged`, which can't be opened."""
    folder = tmp_path_factory.mktemp("space") / "models"
    for family, sharpness in (("vae", 0.1), ("vqvae", 0.4), ("gan", 0.9)):
        torch.manual_seed(0)
        # One that draws by class.
        conditional = ["--model.conditional=true"] * (family == "gan")
        model = tiny_config(family, folder, *conditional).model
        model.pipeline(model.build(16, 1, CLASSES)).save_pretrained(folder / family / "pretrained")
        RECORD.write(folder / family / "record.json", record(family, sharpness))
    write_json(folder / "damaged" / "pretrained" / "model_index.json", {"_class_name": "NoSuchPipeline"})
    return folder


@pytest.fixture(scope="session")
def loaded(untrained: Path):
    from hfgen.space.loaded_models import open_models

    return open_models([str(untrained / name) for name in ("vae", "vqvae", "gan", "damaged")])


@pytest.fixture(scope="session")
def with_twin(untrained: Path, tmp_path_factory: pytest.TempPathFactory):
    """vae and vqvae, and `twin`, which has vae's encoder and a decoder of its own."""
    from hfgen.pipelines.loading import open_model
    from hfgen.space.loaded_models import open_models

    pipeline, _ = open_model(str(untrained / "vae"))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in pipeline.vae.decoder.parameters():
            weight += 0.2 * torch.randn(weight.shape, generator=generator)
    place = tmp_path_factory.mktemp("twins") / "twin"
    pipeline.save_pretrained(place)
    return open_models([*(str(untrained / name) for name in ("vae", "vqvae")), str(place)], "glyphs")


class Server:
    """`hfgen space` in a process; test_readme starts one from nothing."""

    def __init__(self, models: list[Path], folder: Path) -> None:
        port = free_port()
        self.url, self.log = f"http://127.0.0.1:{port}", folder / "log.txt"
        command = ["space", *models, "--data=glyphs", f"--port={port}"]
        self.process = begun(*command, log=self.log, GRADIO_TEMP_DIR=str(folder / "uploads"))

    def wait(self) -> float:
        """Until the page is served; returns the seconds."""
        start = time.perf_counter()
        while True:
            assert self.process.is_alive(), self.log.read_text()
            if answers(self.url):
                return time.perf_counter() - start
            time.sleep(0.1)

    def stop(self) -> None:
        self.process.terminate()
        self.process.join(120)


@pytest.fixture(scope="session")
def server(untrained: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    pytest.importorskip("gradio")
    server = Server(
        [untrained / name for name in ("vae", "vqvae", "gan", "damaged")], tmp_path_factory.mktemp("served")
    )
    try:
        server.wait()
        yield server
    finally:
        server.stop()
