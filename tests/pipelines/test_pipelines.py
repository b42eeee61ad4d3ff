"""What is published: stock, strict, self-contained, and the same image for the same seed."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny import TINY

import hfgen
from hfgen.errors import UserError
from hfgen.publishing.isolation import run_without_hfgen

STOCK = {
    "vae": ("vae", "AutoencoderKL"),
    "vaegan": ("vae", "AutoencoderKL"),
    "vqvae": ("vqvae", "VQModel"),
    "vqgan": ("vqvae", "VQModel"),
    "ali": ("vae", "AutoencoderKL"),
    "flow": ("unet", "UNet2DModel"),
}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def conditions(pipe, count: int) -> dict:
    """What a pipeline needs beside noise to draw `count` images."""
    if pipe.can_sample:
        return {}
    shape = (count, pipe.translator.config.condition_channels, pipe.sample_size, pipe.sample_size)
    return {"condition": torch.rand(shape, generator=seeded()) * 2 - 1}


def test_the_ith_image_of_a_seed_does_not_depend_on_the_batch_size(trained: Path):
    pipe = hfgen.load(trained)
    if not pipe.can_sample:
        pytest.skip("it draws nothing from a seed alone")
    whole = pipe(batch_size=7, generator=seeded(), output_type="pt").images
    assert whole.shape == (7, 1, 16, 16)
    one_by_one, draws = [], seeded()
    for count in (1, 2, 4):
        one_by_one.append(pipe(batch_size=count, generator=draws, output_type="pt").images)
    torch.testing.assert_close(torch.cat(one_by_one), whole, atol=2e-3, rtol=0)
    listed = pipe(batch_size=3, generator=[seeded(1), seeded(2), seeded(3)], output_type="pt").images
    torch.testing.assert_close(listed[1:2], pipe(generator=seeded(2), output_type="pt").images, atol=2e-3, rtol=0)
    assert not torch.allclose(listed[0], listed[1], atol=1e-3)


def test_output_types(trained: Path):
    pipe = hfgen.load(trained)
    image = pipe(generator=seeded(), **conditions(pipe, 1)).images[0]
    assert image.size == (16, 16) and image.mode == "L"
    array = pipe(generator=seeded(), output_type="np", **conditions(pipe, 1)).images
    assert array.shape == (1, 16, 16, 1) and array.min() >= 0 and array.max() <= 1


def test_saving_what_was_loaded_gives_the_same_files(trained: Path, tmp_path: Path):
    hfgen.load(trained).save_pretrained(tmp_path / "again")
    first = {p.relative_to(trained / "pretrained"): p for p in (trained / "pretrained").rglob("*") if p.is_file()}
    second = {p.relative_to(tmp_path / "again"): p for p in (tmp_path / "again").rglob("*") if p.is_file()}
    assert first.keys() == second.keys()
    for name, path in first.items():
        if path.suffix == ".safetensors":
            one, two = load_file(path), load_file(second[name])
            assert one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)
        elif path.suffix == ".py":
            assert path.read_bytes() == second[name].read_bytes()


def test_only_safetensors_json_and_code_are_published(trained: Path):
    suffixes = {path.suffix for path in (trained / "pretrained").rglob("*") if path.is_file()}
    assert suffixes == {".safetensors", ".json", ".py"}


WITHOUT_HFGEN = """
import json, sys
import torch
from diffusers import AutoencoderKL, DiffusionPipeline, UNet2DModel, VQModel
from safetensors.torch import load_file, save_file
for folder, out, stock in json.loads(sys.argv[1]):
    conditions = load_file(out + "/conditions.safetensors")
    pipe = DiffusionPipeline.from_pretrained(folder, trust_remote_code=True)
    images = pipe(batch_size=2, generator=torch.Generator().manual_seed(0), output_type="pt", **conditions).images
    if stock:
        name, cls = stock
        cls = {"AutoencoderKL": AutoencoderKL, "VQModel": VQModel, "UNet2DModel": UNet2DModel}[cls]
        model, info = cls.from_pretrained(folder, subfolder=name, output_loading_info=True)
        assert not info["missing_keys"] and not info["unexpected_keys"], info
    pipe.save_pretrained(out + "/saved")
    save_file({"images": images}, out + "/images.safetensors")
assert not any(name.split(".")[0] == "hfgen" for name in sys.modules)
"""


@pytest.fixture(scope="module")
def without_hfgen(trained_of: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What plain diffusers drew and saved of each family, in one process, which takes seconds to begin."""
    out, jobs = tmp_path_factory.mktemp("without"), []
    for family in TINY:
        (out / family).mkdir()
        save_file(conditions(hfgen.load(trained_of(family)), 2), out / family / "conditions.safetensors")
        jobs.append([str(trained_of(family) / "pretrained"), str(out / family), STOCK.get(family)])
    run_without_hfgen(WITHOUT_HFGEN, json.dumps(jobs), home=out)
    return out


def test_plain_diffusers_loads_it_where_hfgen_cannot_be_imported(trained: Path, family: str, without_hfgen: Path):
    out = without_hfgen / family
    given = load_file(out / "conditions.safetensors")
    elsewhere = load_file(out / "images.safetensors")["images"]
    here = hfgen.load(trained)(batch_size=2, generator=seeded(), output_type="pt", **given).images
    torch.testing.assert_close(here, elsewhere, atol=1e-5, rtol=0)
    again = hfgen.load(out / "saved")(batch_size=2, generator=seeded(), output_type="pt", **given).images
    torch.testing.assert_close(again, elsewhere, atol=1e-5, rtol=0)


def test_from_pretrained_of_the_class_and_of_another_class(trained: Path, family: str):
    classes = {
        "gan": hfgen.GANPipeline,
        "vqgan": hfgen.VQGANPipeline,
        "vqvae": hfgen.VQVAEPipeline,
        "vae": hfgen.VAEPipeline,
        "vaegan": hfgen.VAEGANPipeline,
        "ali": hfgen.ALIPipeline,
        "flow": hfgen.FlowPipeline,
        "pix2pix": hfgen.TranslationPipeline,
    }
    assert isinstance(classes.pop(family).from_pretrained(trained / "pretrained"), hfgen.load(trained).__class__)
    other = next(iter(classes.values()))
    with pytest.raises(UserError, match=f"not a {other.__name__}"):
        other.from_pretrained(trained / "pretrained")


def test_reconstruct_takes_pil_and_tensors_alike(trained: Path, family: str):
    pipe = hfgen.load(trained)
    images = pipe(batch_size=2, generator=seeded(), **conditions(pipe, 2)).images
    if not pipe.can_reconstruct:
        with pytest.raises(ValueError, match="no encoder"):
            pipe.reconstruct(images)
        return
    from hfgen.images import from_pil, to_float

    by_pil = pipe.reconstruct(images, output_type="pt").images
    by_tensor = pipe.reconstruct(to_float(from_pil(images, 1)), output_type="pt").images
    torch.testing.assert_close(by_pil, by_tensor, atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match=r"shape \(1, 12, 12\) doesn't fit"):
        pipe.reconstruct(torch.zeros(1, 1, 12, 12))


def picture(mode: str, size: tuple[int, int] = (16, 16)) -> Image.Image:
    """A gradient in a mode of Pillow; of 16 bits over their whole range, of transparent ones half is."""
    grey = Image.linear_gradient("L").resize(size)
    if mode.startswith("I"):
        return Image.fromarray(np.asarray(grey).astype("int32" if mode == "I" else "uint16") * 257)
    if mode in ("LA", "RGBA"):
        half = grey.convert("RGB").convert(mode)
        half.putalpha(grey.point(lambda level: 255 * (level > 128)))
        return half
    return grey.convert("RGB").convert(mode)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "I", "I;16"])
def test_pictures_of_every_mode_are_read_as_those_of_data(mode: str, channels: int):
    from hfgen.data.decode import flatten
    from hfgen.pipelines.hfgen_pipelines_v1 import _flat

    image = picture(mode)
    mine, datas = _flat("images", image, channels), flatten(image, channels)[0]
    assert (mine.mode, mine.tobytes()) == (datas.mode, datas.tobytes())


def test_pictures_of_every_mode_and_size_are_reconstructed_with_their_size(trained: Path, caplog):
    pipe = hfgen.load(trained)
    if not pipe.can_reconstruct or pipe.paired_with:
        pytest.skip("it takes no pictures alone")
    wide, usual = picture("I;16", (40, 24)), picture("RGBA")
    with caplog.at_level("INFO", "hfgen"):
        made = pipe.reconstruct([wide, usual]).images
    assert [one.size for one in made] == [(40, 24), (16, 16)]
    assert "resized to 16 x 16" in caplog.text or pipe.any_size
    assert "of 16 bits, scaled to 8, or transparent, composited on white" in caplog.text
    # The same picture alone, and as what it is of 8 bits: no level is clipped.
    as_8_bit = picture("L", (40, 24))
    assert pipe.reconstruct(wide).images[0].tobytes() == pipe.reconstruct([as_8_bit]).images[0].tobytes()
    with pytest.raises(ValueError, match="output_type: 'pt' can't hold"):
        pipe.reconstruct([wide, usual], output_type="pt")
    with pytest.raises(ValueError, match="images: none are given"):
        pipe.reconstruct([])
    with pytest.raises(ValueError, match="unknown range; convert them"):
        pipe.reconstruct(picture("L").convert("F"))


def test_each_picture_has_its_own_generator_also_where_sizes_differ():
    from hfgen.families.vae import VAE

    family = VAE(latent_channels=4, max_width=16, prior="normal")
    torch.manual_seed(0)
    pipe = family.pipeline(family.build(16, 1))
    assert pipe.any_size
    pictures = [picture("L"), picture("L", (40, 24))]
    both = pipe.reconstruct(pictures, generator=[seeded(1), seeded(2)]).images
    alone = [pipe.reconstruct(one, generator=seeded(n)).images[0] for n, one in enumerate(pictures, 1)]
    assert [one.tobytes() for one in both] == [one.tobytes() for one in alone]
    with pytest.raises(ValueError, match="generator: 1 generators for 2 images"):
        pipe.reconstruct(pictures, generator=[seeded()])


def test_a_posterior_sample_differs_from_its_mean_and_follows_its_generator():
    from hfgen.families.vae import VAE

    family = VAE(latent_channels=4, max_width=16)
    torch.manual_seed(0)
    pipe = family.pipeline(family.build(16, 1))
    images = torch.zeros(2, 1, 16, 16)
    mean = pipe.reconstruct(images, output_type="pt").images
    one = pipe.reconstruct(images, output_type="pt", generator=seeded()).images
    assert torch.equal(one, pipe.reconstruct(images, output_type="pt", generator=seeded()).images)
    assert not torch.allclose(one, mean)


def translator(**settings):
    from hfgen.families.pix2pix import Pix2Pix

    family = Pix2Pix(width=16, max_width=16, objective="l1", **settings)
    torch.manual_seed(0)
    return family.pipeline(family.build(16, 3))


def test_a_translator_without_a_condition_says_what_is_missing():
    pipe = translator(condition="drawing", condition_channels=1)
    for call in (pipe, lambda: pipe(batch_size=4, generator=seeded())):
        with pytest.raises(ValueError, match=r"^condition: none given; pass images \(drawing\)"):
            call()
    with pytest.raises(ValueError, match=r"condition: shape \(3, 16, 16\) doesn't fit the model's \(1, 16, 16\)"):
        pipe(condition=torch.zeros(1, 3, 16, 16))
    with pytest.raises(ValueError, match="batch_size: 3 for 2 conditions"):
        pipe(3, condition=torch.zeros(2, 1, 16, 16))


def test_a_translator_takes_pil_and_tensors_alike_and_reconstructs_from_the_condition():
    from hfgen.images import to_float, to_pil

    pipe = translator(condition="drawing", condition_channels=1)
    pairs = torch.randint(0, 256, (3, 4, 16, 16), dtype=torch.uint8)
    targets, drawings = pairs.split([3, 1], 1)
    by_pil = pipe(condition=to_pil(drawings), output_type="pt").images
    torch.testing.assert_close(pipe(condition=to_float(drawings), output_type="pt").images, by_pil, atol=1e-5, rtol=0)
    torch.testing.assert_close(pipe.reconstruct(to_float(pairs), output_type="pt").images, by_pil, atol=1e-5, rtol=0)
    assert torch.equal(
        pipe.preview(to_float(pairs), seeded()), pipe.reconstruct(to_float(pairs), output_type="pt").images
    )
    assert pipe(condition=to_pil(drawings)).images[0].mode == "RGB"
    edged = translator()
    by_pil = edged.reconstruct(to_pil(targets), output_type="pt").images
    torch.testing.assert_close(edged.reconstruct(to_float(targets), output_type="pt").images, by_pil, atol=1e-5, rtol=0)


def test_a_translators_noise_follows_its_generator_and_not_the_batch():
    pipe = translator(dropout=0.5)
    condition = torch.rand(1, 1, 16, 16, generator=seeded()).expand(3, -1, -1, -1)
    drawn = pipe(generator=[seeded(1), seeded(2), seeded(3)], condition=condition, output_type="pt").images
    alone = pipe(generator=seeded(2), condition=condition[:1], output_type="pt").images
    torch.testing.assert_close(drawn[1:2], alone, atol=1e-5, rtol=0)
    assert not torch.allclose(drawn[0], drawn[1], atol=1e-3)
    mean = pipe(condition=condition, output_type="pt").images
    assert torch.equal(mean[0], mean[1])


def test_a_plain_autoencoder_folder_is_opened(tmp_path: Path):
    from diffusers import AutoencoderKL

    from hfgen.models.decoder import decoder_arguments

    AutoencoderKL(**decoder_arguments(16, 3, 4, 4, 16, 16)).save_pretrained(tmp_path)
    pipe = hfgen.load(tmp_path)
    assert pipe.reconstruct(torch.zeros(1, 3, 16, 16)).images[0].size == (16, 16)


def copy_of(trained: Path, tmp_path: Path) -> Path:
    import shutil

    return Path(shutil.copytree(trained / "pretrained", tmp_path / "copy"))


def weights_of(folder: Path) -> Path:
    return sorted(folder.rglob("*.safetensors"))[0]


def test_missing_and_unexpected_keys_are_named(trained: Path, tmp_path: Path):
    path = weights_of(copy_of(trained, tmp_path))
    tensors = load_file(path)
    first = min(tensors)
    tensors["surprise"] = tensors.pop(first)
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(UserError, match=rf"missing keys .*{first.rpartition('.')[2]}.*unexpected keys .*surprise"):
        hfgen.load(tmp_path / "copy")


def test_truncated_weights_are_refused(trained: Path, tmp_path: Path):
    path = weights_of(copy_of(trained, tmp_path))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match="can't be loaded"):
        hfgen.load(tmp_path / "copy")


def test_a_component_of_another_class_is_refused(trained: Path, tmp_path: Path):
    path = weights_of(copy_of(trained, tmp_path)).parent / "config.json"
    config = json.loads(path.read_text())
    config["_class_name"] = "UNet2DModel"
    path.write_text(json.dumps(config))
    with pytest.raises(UserError, match="holds a UNet2DModel, not a"):
        hfgen.load(tmp_path / "copy")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("/no/such/folder", "isn't a folder"),
        ("bare_word", "isn't a folder"),
        ("org/name", "can't be fetched from the Hub"),
        (".", "holds no checkpoint"),
    ],
)
def test_what_is_no_model_is_refused_in_one_line(model: str, message: str, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message) as error:
        hfgen.load(model)
    assert "\n" not in str(error.value)


def test_an_unknown_pipeline_is_refused(tmp_path: Path):
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline"}))
    with pytest.raises(UserError, match="is a StableDiffusionPipeline, and holds no autoencoder; hfgen opens"):
        hfgen.load(tmp_path)
