"""What is rewritten for torch.compile computes the same; what a loss asks for early isn't compiled."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from diffusers.models.attention_processor import Attention
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn

from hfgen.models.decoder import decoder_arguments
from hfgen.training.compiled_layers import leave_out, rewrite_layers


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    """Nothing is compiled by another test."""
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


class Traced(list[str]):
    """A backend of torch.compile with eager kernels, and what it was given."""

    def __call__(self, graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Any:
        self.extend(str(node.target) for node in graph.graph.nodes)
        return graph.forward


def traced(module: nn.Module, backend: Any = "eager") -> nn.Module:
    """A copy with its layers rewritten, as torch.compile traces it, in eager kernels."""
    rewritten = copy.deepcopy(module)
    rewrite_layers(rewritten)
    rewritten.compile(backend=backend, fullgraph=True)
    return rewritten


def with_gradients(module: nn.Module, images: Tensor) -> list[Tensor]:
    """The output, and the gradients of a weighted sum of it with respect to the images and the weights."""
    images = images.clone(memory_format=torch.preserve_format).requires_grad_()
    out = module(images)
    (out * torch.randn(out.shape, generator=torch.Generator().manual_seed(1))).sum().backward()
    found = [out.detach(), images.grad, *(weight.grad for weight in module.parameters())]
    module.zero_grad()
    assert all(tensor is not None for tensor in found)
    return found  # type: ignore[return-value]


def assert_alike(module: nn.Module, images: Tensor, rel: float = 1e-5) -> None:
    for theirs, ours in zip(with_gradients(module, images), with_gradients(traced(module), images), strict=True):
        assert ours.dtype == theirs.dtype
        assert (ours - theirs).norm() <= rel * theirs.norm()


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("groups", "channels"), [(1, 4), (4, 16), (8, 8)])
def test_group_normalisation(groups: int, channels: int, layout: torch.memory_format):
    module = nn.GroupNorm(groups, channels, eps=1e-6)
    nn.init.normal_(module.weight)
    nn.init.normal_(module.bias)
    images = torch.randn(3, channels, 5, 7) + 3 * torch.randn(channels, 1, 1)
    assert_alike(module, images.contiguous(memory_format=layout))


def test_a_mean_far_from_zero_cancels_nothing():
    module, images = nn.GroupNorm(2, 8), torch.randn(2, 8, 16, 16) + 1000
    exact = copy.deepcopy(module).double()(images.double())
    assert (traced(module)(images) - exact).abs().max() < 1e-3


@pytest.mark.parametrize("shape", [(5, 8), (2, 8, 9), (2, 8, 2, 3, 4)])
def test_group_normalisation_of_vectors_sequences_and_videos(shape: tuple[int, ...]):
    assert_alike(nn.GroupNorm(4, 8), torch.randn(shape))


def test_weights_in_half_precision_give_half_precision():
    assert_alike(nn.GroupNorm(4, 8).bfloat16(), torch.randn(2, 8, 5, 5).bfloat16(), rel=0.01)


@pytest.mark.parametrize("settings", [{"use_conv": True}, {"use_conv": True, "name": "Conv2d_0"}, {}])
def test_doubling(settings: dict[str, Any]):
    assert_alike(Upsample2D(4, **settings), torch.randn(2, 4, 3, 5))


def test_another_size_than_double_is_left_to_diffusers():
    module = Upsample2D(4, use_conv=True)
    expected = module(torch.ones(1, 4, 3, 3), (5, 5))
    assert torch.equal(traced(module)(torch.ones(1, 4, 3, 3), (5, 5)), expected)


def test_a_whole_autoencoder_in_bf16():
    from diffusers import AutoencoderKL

    torch.manual_seed(0)
    vae = AutoencoderKL(**decoder_arguments(16, 3, 4, 4, width=16, max_width=32, attention=True))
    images = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        exact = vae(images).sample
        with torch.autocast("cpu", torch.bfloat16):
            theirs, ours = vae(images).sample, traced(vae)(images).sample
    assert not torch.equal(ours, theirs)
    # No farther from float32 than diffusers' own layers are.
    assert (ours - exact).norm() < 1.2 * (theirs - exact).norm()


@pytest.mark.parametrize(("heads", "products"), [(1, True), (8, False)])
def test_attention_with_a_wide_head_takes_matrix_products_on_a_gpu(
    heads: int, products: bool, monkeypatch: pytest.MonkeyPatch
):
    attention = Attention(512, heads=heads, dim_head=512 // heads, norm_num_groups=32, residual_connection=True)
    calls = Traced()
    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, "is_cuda", True)
        on_a_gpu = traced(attention, calls)
    images = torch.randn(2, 512, 4, 4)
    assert torch.allclose(on_a_gpu(images), attention(images), atol=1e-5)
    assert any("softmax" in call for call in calls) == products
    assert any("scaled_dot_product" in call for call in calls) != products


def test_eager_layers_stay_as_they_are():
    module, images = nn.GroupNorm(2, 8), torch.randn(2, 8, 16, 16)
    expected = module(images)
    rewrite_layers(module)
    assert torch.equal(module(images), expected)


@pytest.mark.parametrize(("left", "compiled"), [([], 2), (["last"], 1)])
def test_a_layer_whose_gradient_is_asked_for_early_isnt_compiled(left: list[str], compiled: int):
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(3, 3), nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.first(x).sin())

    network, calls = Two(), Traced()
    leave_out({"network": network}, [getattr(network, name).weight for name in left])
    network.compile(backend=calls)
    expected = network.last(network.first(torch.ones(2, 3)).sin())
    assert torch.equal(network(torch.ones(2, 3)), expected)
    assert sum("linear" in call for call in calls) == compiled
