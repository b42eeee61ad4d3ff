"""torch.compile that fails or is wrong: eager with a warning where nobody asked for it, else an error."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import make_trainer
from torch import Tensor, nn

from hfgen.errors import SettingsError
from hfgen.kernels import choose_kernels
from hfgen.models.discriminator import ImageDiscriminator
from hfgen.training import trainer as trainer_module
from hfgen.training.compile_check import _fault, compile_networks


class WrongOnceCompiled(nn.Module):
    """A weight whose compiled gradient is the eager one times a factor."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.weight, self.factor = nn.Parameter(torch.ones(3)), factor

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight * (self.factor if torch.compiler.is_compiling() else 1.0)


class Doubling(nn.Module):
    """Of any size."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * x


def fault_of(network: nn.Module) -> str | None:
    def gradients(mode: str) -> dict[str, Tensor]:
        network.zero_grad()
        with torch.compiler.set_stance("force_eager" if mode == "off" else "default"):
            network(torch.arange(3.0)).sum().backward()
        return {"phase": network.weight.grad.clone()}

    return compile_networks({"network": network}, "default", [], gradients)


def test_weights_that_were_frozen_when_they_were_compiled():
    network, images = ImageDiscriminator(3, 8, 4, 8), torch.randn(4, 3, 8, 8)
    compile_networks({"network": network}, "default", [], lambda _: {})
    # Faster than Inductor, with the same guards.
    for module in (network, *network.children()):
        module.compile(backend="aot_eager")
    # A generator's phase: what judges is frozen, and judges real images, too.
    network.requires_grad_(False)
    network(images)
    network(images.clone().requires_grad_()).sum().backward()
    network.requires_grad_(True)
    assert network(images).requires_grad
    torch._dynamo.reset()


def test_a_second_run_of_a_process_is_compiled_for_its_own_sizes():
    inputs: list[Any] = []

    def keep(graph: Any, examples: list[Any]) -> Any:
        inputs.extend(examples)
        return graph.forward

    for side in (8, 16):
        network = Doubling()
        compile_networks({"network": network}, "default", [], lambda _: {})
        network.compile(backend=keep)
        network(torch.randn(4, 3, side, side))
    sizes = [size for each in inputs for size in (each.shape if isinstance(each, Tensor) else (each,))]
    assert not any(isinstance(size, torch.SymInt) for size in sizes) and {8, 16} <= set(sizes)
    torch._dynamo.reset()


def test_gradients_that_are_right_pass():
    assert fault_of(WrongOnceCompiled(1.0)) is None


@pytest.mark.parametrize(
    ("factor", "words"),
    [(2.0, "100% off the eager one"), (float("nan"), "non-finite"), (float("inf"), "non-finite")],
)
def test_gradients_that_are_wrong_are_told(factor: float, words: str):
    assert words in fault_of(WrongOnceCompiled(factor))


def test_what_the_eager_gradient_cannot_tell():
    zero, one, bad = torch.zeros(2), torch.ones(2), torch.full((2,), torch.nan)
    assert _fault(zero, zero) is None and _fault(one, zero) == "inf% off the eager one"
    assert _fault(bad, bad) is None and _fault(one, bad) is None
    assert _fault(bad, one) == "non-finite, unlike the eager one"


def test_a_gradient_that_is_there_in_one_mode_only_has_its_place(glyph_folder: Path):
    trainer = make_trainer("gan", glyph_folder, "--compiled=off")
    whole = trainer.gradients("off")["discriminator"]
    # As torch 2.11 compiles it for a GPU: a relativistic loss leaves the last bias a gradient of 0, or none.
    bias = trainer.networks["discriminator"].score.linear.bias
    bias.register_post_accumulate_grad_hook(lambda weight: setattr(weight, "grad", None))
    assert _fault(trainer.gradients("off")["discriminator"], whole) is None


@pytest.fixture
def no_compiler():
    """A machine whose C++ compiler Inductor doesn't find."""
    import torch._inductor.config as inductor

    torch._dynamo.reset()
    # Its own way: monkeypatch takes the entry away when it puts it back.
    with inductor.patch({"cpp.cxx": ("/nowhere/g++",), "force_disable_caches": True}):
        yield
    torch._dynamo.reset()


def test_a_compiler_that_fails_is_an_error_where_it_was_asked_for(no_compiler: None, glyph_folder: Path):
    with pytest.raises(SettingsError, match=r"compiled: torch\.compile fails \(.*\); use --compiled off"):
        make_trainer("vae", glyph_folder, "--compiled=default")


def test_a_compiler_that_fails_stays_off_where_nobody_asked(
    no_compiler: None, glyph_folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    eager = make_trainer("vae", glyph_folder, "--compiled=off")

    # On a GPU, auto compiles.
    def as_on_a_gpu(*arguments: object, **options: object) -> object:
        return dataclasses.replace(choose_kernels(*arguments, **options), compiled="default")

    monkeypatch.setattr(trainer_module, "choose_kernels", as_on_a_gpu)
    trainer = make_trainer("vae", glyph_folder)
    assert trainer.kernels.compiled == "off" and trainer.computes()["compiled"] == "off"
    assert "torch.compile fails" in caplog.text and "it stays off" in caplog.text
    for _ in range(2):
        trainer.step()
        eager.step()
    one, other = (t.networks["vae"].state_dict() for t in (trainer, eager))
    assert all(torch.equal(one[key], other[key]) for key in one)
