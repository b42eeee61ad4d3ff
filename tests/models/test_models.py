"""The shared decoder and the discriminators."""

import pytest
import torch

from hfgen.errors import UserError
from hfgen.models.dcgan_discriminator import DCGANDiscriminator
from hfgen.models.decoder import decoder_arguments
from hfgen.models.discriminator import ImageDiscriminator
from hfgen.models.hfgen_dcgan_v1 import DCGANGenerator
from hfgen.models.hfgen_gan_v1 import GANGenerator
from hfgen.models.hfgen_r3gan_v1 import InvertedBottleneck, R3Generator
from hfgen.models.patch_discriminator import PatchDiscriminator, receptive_field
from hfgen.models.r3_discriminator import R3Discriminator


def test_one_decoder_serves_the_three_families():
    from hfgen.families.gan import GAN
    from hfgen.families.vae import VAE
    from hfgen.families.vqvae import VQVAE

    vae = VAE(latent_channels=8, latent_size=4).build(32, 1)["vae"].decoder
    gan = GAN(latent_channels=8, latent_size=4).build(32, 1)["gan"].decoder
    vqvae = VQVAE(code_channels=8, latent_size=4).build(32, 1)["vqvae"].decoder
    shapes = [{name: tuple(p.shape) for name, p in d.named_parameters()} for d in (vae, gan, vqvae)]
    assert shapes[0] == shapes[1] == shapes[2]


def test_the_generator_computes_what_the_autoencoder_decodes():
    from diffusers import AutoencoderKL

    arguments = decoder_arguments(16, 3, 4, 1, 16, 32)
    vae = AutoencoderKL(**arguments).eval()
    gan = GANGenerator(**{k: v for k, v in arguments.items() if k not in ("in_channels", "down_block_types")}).eval()
    gan.load_state_dict({k: v for k, v in vae.state_dict().items() if k.startswith(("decoder", "post_quant"))})
    latents = torch.randn(2, 4, 1, 1, generator=torch.Generator().manual_seed(0))
    assert torch.equal(gan(latents), vae.decode(latents).sample)


def test_widths_of_the_stable_diffusion_autoencoder():
    assert decoder_arguments(256, 3, 4, 32, 128, 512)["block_out_channels"] == [128, 256, 512, 512]
    assert decoder_arguments(256, 3, 4, 32, 128, 512)["norm_num_groups"] == 32


@pytest.mark.parametrize(("resolution", "latent_size"), [(24, 1), (28, 4), (32, 3), (16, 16), (32, 0)])
def test_a_resolution_that_the_blocks_cannot_reach_is_refused(resolution: int, latent_size: int):
    with pytest.raises(UserError, match=rf"resolution: {resolution} can't be reached from a latent of side"):
        decoder_arguments(resolution, 1, 4, latent_size, 16, 16)


@pytest.mark.parametrize("resolution", [8, 16, 32, 64])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_discriminator_scores_every_size(resolution: int, channels: int):
    network = ImageDiscriminator(channels, resolution, 8, 16)
    assert network(torch.randn(6, channels, resolution, resolution)).shape == (6,)


def test_the_discriminator_sees_missing_variety():
    torch.manual_seed(0)
    network = ImageDiscriminator(1, 16, 8, 16)
    images = torch.randn(4, 1, 16, 16)
    assert not torch.allclose(network(images)[:1], network(images[:1].expand(4, -1, -1, -1))[:1], atol=1e-4)


def test_the_discriminators_groups_do_not_depend_on_how_a_batch_is_shared():
    torch.manual_seed(0)
    network = ImageDiscriminator(1, 16, 8, 16)
    images = torch.randn(8, 1, 16, 16)
    torch.testing.assert_close(network(images), torch.cat([network(images[:4]), network(images[4:])]))


@pytest.mark.parametrize("resolution", [16, 24, 32, 64, 128, 256])
@pytest.mark.parametrize("layers", [1, 2, 3, 4])
def test_the_patch_discriminator_scores_every_size(resolution: int, layers: int):
    torch.manual_seed(0)
    network = PatchDiscriminator(3, 16, 64, layers)
    scores = network(torch.randn(16, 3, resolution, resolution))
    side = resolution >> layers
    assert scores.shape == (16, 1, side, side)
    # Scores at unit scale; padding dims smaller maps.
    assert (0.3 if side > 2 else 0.003) < scores.std() < 3


@pytest.mark.parametrize(("layers", "side"), [(1, 16), (2, 34), (3, 70)])
def test_a_patchs_score_sees_its_receptive_field_and_no_more(layers: int, side: int):
    torch.manual_seed(0)
    images = torch.randn(1, 1, 128, 128, requires_grad=True)
    scores = PatchDiscriminator(1, 8, 16, layers)(images)
    middle = scores.shape[-1] // 2
    (gradient,) = torch.autograd.grad(scores[0, 0, middle, middle], images)
    rows, columns = gradient[0, 0].nonzero().T
    assert receptive_field(layers) == side == rows.max() - rows.min() + 1 == columns.max() - columns.min() + 1


def test_the_patch_discriminator_judges_each_image_alone():
    torch.manual_seed(0)
    network = PatchDiscriminator(1, 8, 16, 2)
    images = torch.randn(6, 1, 16, 16)
    torch.testing.assert_close(network(images)[2:3], network(images[2:3]))


@pytest.mark.parametrize("resolution", [8, 32, 64])
@pytest.mark.parametrize("classes", [0, 3])
def test_dcgan_generates_and_judges_every_size(resolution: int, classes: int):
    from hfgen.families.gan import GAN

    torch.manual_seed(0)
    family = GAN(network="dcgan", penalty=0, max_width=32, discriminator_width=16, discriminator_max_width=32)
    generator, discriminator = family._dcgan(resolution, 3, classes)
    labels = (torch.arange(4) % 3,) if classes else ()
    images = generator(torch.randn(4, *generator.latent_shape), *labels)
    assert images.shape == (4, 3, resolution, resolution) and images.abs().max() <= 1
    assert discriminator(images, *labels).shape == (4,)


def test_dcgans_networks_have_their_authors_layers():
    """At 64 px their code's generator has 3,576,704 weights, and their discriminator 2,765,568."""
    generator = DCGANGenerator(3, (64, 128, 256, 512), 100, 64)
    discriminator = DCGANDiscriminator(3, 64, (64, 128, 256, 512))
    sizes = [sum(weight.numel() for weight in network.parameters()) for network in (generator, discriminator)]
    # Our first and last convolutions have a bias: 3 and 64 + 1.
    assert sizes == [3_576_704 + 3, 2_765_568 + 65]


def test_a_dcgans_image_doesnt_depend_on_its_batch_and_its_score_does():
    torch.manual_seed(0)
    generator, discriminator = DCGANGenerator(1, (16, 16), 8, 16), DCGANDiscriminator(1, 16, (16, 16))
    latents = torch.randn(6, 8, 1, 1)
    images = generator(latents)
    torch.testing.assert_close(generator(latents[2:3]), images[2:3])
    assert not torch.allclose(discriminator(images[:2]), discriminator(images)[:2], atol=1e-4)
    # A process that knows the others' features scores its own as one process scores them all.
    taps: list[torch.Tensor] = []
    hooks = [layer.register_forward_hook(lambda _, __, found: taps.append(found)) for layer in discriminator.layers]
    whole = discriminator(images)
    for hook in hooks:
        hook.remove()
    rows, rest = slice(2, 4), iter(taps)
    torch.testing.assert_close(discriminator(images[rows], join=lambda part: (next(rest), rows)), whole[rows])


@pytest.mark.parametrize("resolution", [8, 32, 64, 256])
@pytest.mark.parametrize("classes", [0, 3])
def test_r3_generates_and_judges_every_size(resolution: int, classes: int):
    from hfgen.families.gan import GAN

    torch.manual_seed(0)
    family = GAN(network="r3", latent_channels=8, max_width=16, discriminator_width=16, discriminator_max_width=16)
    generator, discriminator = family._r3(resolution, 3, classes)
    labels = (torch.arange(4) % 3,) if classes else ()
    images = generator(torch.randn(4, *generator.latent_shape), *labels)
    assert images.shape == (4, 3, resolution, resolution)
    # Unit scale at the start: no layer vanishes or explodes, whatever the depth.
    assert 0.2 < images.std() < 3
    scores = discriminator(images, *labels)
    assert scores.shape == (4,) and 0.01 < scores.abs().max() < 10


def test_r3_starts_as_the_identity_and_learns_in_every_branch():
    torch.manual_seed(0)
    block, images = InvertedBottleneck(16, 4), torch.randn(2, 16, 8, 8)
    assert torch.equal(block(images), images)
    block(images).square().sum().backward()
    assert block.reduce.weight.grad.abs().sum() > 0
    shallow = InvertedBottleneck(16, 1)
    for wide, narrow in ((shallow.expand, block.expand), (shallow.mix, block.mix)):
        assert (wide.weight.std() / narrow.weight.std()).item() == pytest.approx(4**0.25, rel=0.1)


def test_r3_normalises_nothing_and_judges_each_image_alone():
    torch.manual_seed(0)
    generator, discriminator = R3Generator(3, (16, 16), 1, 8, 8), R3Discriminator(3, (16, 16), 4)
    modules = [*generator.modules(), *discriminator.modules()]
    assert not any("norm" in type(module).__name__.lower() for module in modules)
    images = torch.randn(6, 3, 8, 8)
    torch.testing.assert_close(discriminator(images)[2:3], discriminator(images[2:3]))


def test_r3s_convolutions_are_grouped_by_16_channels():
    block = InvertedBottleneck(32, 1)
    inputs = torch.randn(1, 64, 5, 5, requires_grad=True)
    (gradient,) = torch.autograd.grad(block.mix(inputs)[0, 20].sum(), inputs)
    assert gradient.abs().sum((0, 2, 3)).nonzero().flatten().tolist() == list(range(16, 32))
