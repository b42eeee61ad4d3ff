"""What is typed: any order of words, unknown options, outputs that can't be written, models of one name."""

import os
import socket
from pathlib import Path

import pytest
import torch
from commands import here, refused
from PIL import Image

from hfgen.comparison.names import distinct_names
from hfgen.errors import SettingsError
from hfgen.images import grid, write_picture

SMALL = ("16", "64", "False")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("vae-glyphs --batch_size 16 --max_images 64", SMALL),
        ("--batch_size 16 vae-glyphs --max_images=64", SMALL),
        ("--max_images 64 --batch_size=16 vae-glyphs", SMALL),
        ("--max_images 9 --max_images 64 --batch_size 16 --config FILE", SMALL),
        ("--config FILE --max_images 64 --batch_size 16", SMALL),
        ("--max_images 64 --config=FILE --batch_size 16 --skip_damaged", ("16", "64", "True")),
        ("--skip_damaged vae-glyphs --max_images 64 --batch_size 16", ("16", "64", "True")),
        ("--skip_damaged false vae-glyphs --max_images 64 --batch_size 16", SMALL),
        ("--max_images 64 --skip_damaged true --batch_size 16 vae-glyphs", ("16", "64", "True")),
    ],
)
def test_options_and_the_recipe_stand_in_any_order(words: str, expected: tuple[str, ...], tmp_path: Path):
    (tmp_path / "run.yaml").write_text("family: vae\nresolution: 16\n")
    done = here("train", "--dry_run", *words.replace("FILE", str(tmp_path / "run.yaml")).split())
    assert done.returncode == 0, done.stderr
    found = dict(line.split(None, 1) for line in done.stdout.splitlines() if len(line.split(None, 1)) == 2)
    assert tuple(found[name] for name in ("batch_size", "max_images", "skip_damaged")) == expected


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--colour red vae-glyphs", "colour: no such setting"),
        ("--colour vae-glyphs", "colour: no such setting"),
        ("vae-glyphs --max-images 5", "max-images: no such setting (did you mean max_images?)"),
        ("vae-glyphs --resum never", "resum: no such setting"),
        (
            "vae-glyphs gan-glyphs",
            "recipe: give a recipe's name or --config FILE, one of them, not vae-glyphs, gan-glyphs",
        ),
        ("--max_images 5", "recipe: give a recipe's name or --config FILE, one of them;"),
        ("vae-glyphs --model.kl_weight -1", "model.kl_weight: -1.0 is negative"),
        ("--model.kl_weight -.5 vae-glyphs", "model.kl_weight: -0.5 is negative"),
        ("--max_images -1e3 vae-glyphs", "max_images: Expected a int. Got value: -1000.0"),
        ("vae-glyphs --max_images", "max_images"),
    ],
)
def test_a_setting_that_cant_be_is_refused_by_name(words: str, message: str):
    assert message in refused("train", *words.split(), run=here)


def test_a_file_in_a_recipes_place_is_told_how_it_is_given(tmp_path: Path):
    (tmp_path / "run.yaml").write_text("family: vae\n")
    assert f"give it as --config {tmp_path / 'run.yaml'}" in refused("train", tmp_path / "run.yaml", run=here)


def test_an_address_that_cant_be_listened_on_is_one_line_before_models_are_loaded():
    pytest.importorskip("gradio")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"port: {port} of 127.0.0.1 can't be listened on" in refused(
            "space", "/nowhere", f"--port={port}", run=here
        )
    assert "port: 70000 isn't between 1 and 65535" in refused("space", "/nowhere", "--port=70000", run=here)
    assert "host: 192.0.2.1 can't be listened on" in refused("space", "/nowhere", "--host=192.0.2.1", run=here)


def test_help_after_a_config_file_lists_its_familys_settings(tmp_path: Path):
    (tmp_path / "run.yaml").write_text("family: vqvae\n")
    assert "--model.codes" in here("train", "--help", "--config", tmp_path / "run.yaml").stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("sample x --see 3", "--see: no such argument (did you mean --seed?)"),
        ("diagnose x --data glyphs --out OUT y", "y: no such argument"),
        ("evaluate x --dat glyphs", "--dat: no such argument (did you mean --data?)"),
        ("compare x --out OUT y --colour z", "--colour: no such argument"),
        ("compare x --out OUT /nowhere/y", "data: none given, and x holds no record.json: it isn't a folder; check"),
        ("study loss --out OUT nois", "nois"),
    ],
)
def test_what_a_verb_doesnt_take_is_named(words: str, message: str, tmp_path: Path):
    assert message in refused(*words.replace("OUT", str(tmp_path / "out")).split(), run=here)
    assert not list(tmp_path.iterdir())


FOLDERS = {
    "file": "is a file; give a folder",
    "link": "is a file; give a folder",
    "file/below": "is a file; choose another --out",
    "file/far/below": "is a file; choose another --out",
    "x" * 260: "can't be written (File name too long)",
    "x" * 250: "can't be written (File name too long)",
    "/proc/nope/x": "can't be written (",
}
PICTURES = {
    "folder": "is a folder; give a file, such as --out",
    "grid": "has no ending that is written; give one of .png, .jpg, .jpeg, .webp",
    "grid.gif": "has no ending that is written",
    "/dev/null": "has no ending that is written",
    "pipe.png": "isn't a regular file",
    "file/below.png": "is a file; choose another --out",
    "x" * 260 + ".png": "can't be written (File name too long)",
    "/proc/nope/x.png": "can't be written (",
}
WRITING = {
    "quickstart": (),
    "train": ("vae-glyphs",),
    "evaluate": ("/nowhere", "--data=glyphs"),
    "compare": ("/nowhere", "--data=glyphs"),
    "diagnose": ("/nowhere", "--data=glyphs"),
    "study": (),
    "sample": ("/nowhere",),
    "reconstruct": ("/nowhere", "--data=glyphs"),
}


@pytest.mark.parametrize("verb", WRITING)
def test_an_output_that_cant_be_written_is_refused_before_the_work(verb: str, tmp_path: Path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    os.mkfifo(tmp_path / "pipe.png")
    before = sorted(tmp_path.rglob("*"))
    for name, message in (PICTURES if verb in ("sample", "reconstruct") else FOLDERS).items():
        if name.startswith("/proc") and not Path("/proc/self").exists():
            continue
        line = refused(verb, *WRITING[verb], f"--out={tmp_path / name}", run=here)
        assert line.startswith("out: ") and message in line, line
    assert sorted(tmp_path.rglob("*")) == before and (tmp_path / "file").read_text() == "mine"


def test_a_folder_without_permission_is_one_line(tmp_path: Path):
    (tmp_path / "closed").mkdir(mode=0o500)
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    line = refused("sample", "/nowhere", f"--out={tmp_path / 'closed' / 'grid.png'}", run=here)
    assert "can't be written (Permission denied)" in line


def test_a_picture_that_a_format_has_no_room_for_is_refused(tmp_path: Path):
    tall = grid(torch.zeros(1, 1, 70_000, 2, dtype=torch.uint8), columns=1)
    for name in ("grid.jpg", "grid.webp"):
        with pytest.raises(SettingsError, match=r"pixels a side, not 2 x 70000; give a name in \.png"):
            write_picture(tmp_path / name, tall)
    assert not list(tmp_path.iterdir())
    write_picture(tmp_path / "grid.PNG", tall)
    assert Image.open(tmp_path / "grid.PNG").format == "PNG"


@pytest.mark.parametrize(
    ("models", "names"),
    [
        (["runs/a/vae", "runs/b/vae"], ["a-vae", "b-vae"]),
        (["runs/a/vae/pretrained", "runs/b/vae/"], ["a-vae", "b-vae"]),
        (["org1/vae", "org2/vae", "org2/gan"], ["org1-vae", "org2-vae", "gan"]),
        (["runs/a/vae", "org1/vae"], ["a-vae", "org1-vae"]),
        (["org1/vae@v1", "org1/vae@v2"], ["vae@v1", "vae@v2"]),
        (["org1/vae@refs/pr/1", "org1/vae"], ["vae@refs-pr-1", "vae"]),
        (["org1/models/x/vae", "org1/models/y/vae"], ["x-vae", "y-vae"]),
        (["x/1/a/vae", "x/2/a/vae"], ["1-a-vae", "2-a-vae"]),
        (["runs/a/dataset", "runs/a/vae"], ["a-dataset", "vae"]),
        (["runs/a/vae", "runs/b/../b/vae"], ["a-vae", "b-vae"]),
    ],
)
def test_compared_models_are_told_apart(
    models: list[str], names: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    for folder in ("runs/a/vae/pretrained", "runs/b/vae", "runs/a/dataset"):
        Path(folder).mkdir(parents=True)
    assert distinct_names(models) == names


@pytest.mark.parametrize(
    ("models", "named"),
    [
        (["mine=org/vae", "other/vae"], {"mine": "org/vae", "vae": "other/vae"}),
        (["a=org/vae@v1", "b=org/vae@v2"], {"a": "org/vae@v1", "b": "org/vae@v2"}),
        (["x=./kl=1", "kl=0.5"], {"x": "./kl=1", "kl=0.5": "kl=0.5"}),
        (["runs/kl=1", "KL of 2=runs/kl=2"], {"kl=1": "runs/kl=1", "KL of 2": "runs/kl=2"}),
        (["KL=4=org/vae", "mine=kl=0.5"], {"KL=4": "org/vae", "mine": "kl=0.5"}),
        (["=org/vae", "hf://org/gan@a=b"], {"vae": "=org/vae", "gan": "hf://org/gan@a=b"}),
    ],
)
def test_a_compared_model_may_be_given_a_name(
    models: list[str], named: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from hfgen.cli.options import by_name

    monkeypatch.chdir(tmp_path)
    Path("kl=0.5").mkdir()
    assert by_name(models) == named


def test_a_name_with_a_slash_is_refused_where_its_model_is_there(tmp_path: Path):
    said = refused("compare", f"mine/4={tmp_path}", "other=x/vae", "--data=glyphs", "--out=out", run=here)
    assert f"models: 'mine/4' can't be a model's name; leave out its /, as in NAME={tmp_path}" in said


@pytest.mark.parametrize(
    ("models", "words"),
    [
        ("mine=x/a mine=x/b", "x/a and x/b are both called mine; give another NAME=MODEL"),
        ("b=x/a x/b", "x/a and x/b are both called b; give another NAME=MODEL"),
        ("a=x/vae b=x/vae", "x/vae is given twice"),
        ("real=x/vae", "real can't be a model's name"),
        ("report.html=x/vae", "report.html can't be a model's name"),
        ("Dataset=x/vae", "Dataset can't be a model's name here; give another one, NAME=MODEL"),
        ("..=x/vae", "'..' can't be a model's name"),
        ("mine= x/vae", "mine= names no model; give NAME=MODEL"),
        ("a\\b=x/vae", "can't be a model's name"),
        (f"{'M' * 300}=x/vae", "models: MMMMMMMMMMMMMMMMMMMM... has 300 bytes, 200 at most; shorten it"),
        ("A=x/vae a=x/gan", "models: A and a differ in case only, which some file systems don't tell apart"),
    ],
)
def test_names_that_cannot_be_are_refused_before_any_work(models: str, words: str, tmp_path: Path):
    assert words in refused("compare", *models.split(), "--data=glyphs", f"--out={tmp_path / 'out'}", run=here)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("train vae-glyphs --push_every 500", "push_every: nothing is published without --push_to_hub; leave"),
        ("train vae-glyphs --push_every -1 --push_to_hub --hub_model_id a/b", "push_every: -1 is negative"),
        ("train vae-glyphs --push_every -1 --job cpu-basic --hub_model_id a/b", "push_every: -1 is negative"),
        ("train vae-glyphs --hub_model_id org/vae", "hub_model_id: nothing is published without --push_to_hub"),
        ("train vae-glyphs --private", "private: nothing is published without --push_to_hub"),
        ("train vae-glyphs --job_timeout 1h", "job_timeout: it goes with --job"),
        ("train vae-glyphs --job cpu-basic --hub_model_id a/b --out DIR/run", "out: a job trains elsewhere"),
        ("train vae-glyphs --job cpu-basic --hub_model_id a/b --resume never", "resume: a job trains elsewhere"),
        ("evaluate --verify DIR --n 16", "n: --verify measures as the record says"),
        ("evaluate --verify DIR --data glyphs", "data: --verify measures as the record says"),
        ("evaluate --verify DIR --out DIR/again", "out: --verify measures as the record says"),
        ("evaluate DIR --data glyphs --out DIR/out --samples_split train", "samples_split: it goes with --samples"),
        ("evaluate --samples DIR --data glyphs --out DIR/out --variant fp16", "variant: no model runs"),
        ("compare DIR --out DIR/out --n 16", "n: without --data nothing is measured"),
        ("compare DIR --out DIR/out --seed 1", "seed: without --data nothing is measured"),
        ("compare DIR --out DIR/out --dtype bf16", "dtype: without --data nothing is measured"),
        ("publish DIR --to org/x --resolution 64", "resolution: only glyphs and stacked are drawn"),
        ("publish DIR --to org/x --data glyphs", "data: it is for a Space of --models"),
        ("publish glyphs --to org/x --results DIR", "results: it is for a Space of --models"),
        ("study loss/spectrum --out DIR/out --n 16", "n: only the studies posterior and decoders take it"),
        ("study posterior --out DIR/out --widths 8", "widths: only the study decoders takes it"),
        ("study posterior --out DIR/out --data DIR", "data: only glyphs have known factors"),
    ],
)
def test_an_option_that_would_do_nothing_is_refused_by_name(words: str, message: str, tmp_path: Path):
    error = refused(*words.replace("DIR", str(tmp_path)).split(), run=here)
    assert message in error
    assert "is negative" in message or f"; leave --{message.partition(':')[0]} out" in error
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("seed", ["-1", "1.5", "x", str(2**63), "9" * 5000])
@pytest.mark.parametrize("verb", ["sample", "evaluate", "diagnose", "compare"])
def test_a_seed_that_cannot_be_is_refused_by_name(verb: str, seed: str, tmp_path: Path):
    options = [] if verb == "sample" else ["--data=glyphs", f"--out={tmp_path / 'out'}"]
    error = refused(verb, "/nowhere", f"--seed={seed}", *options, run=here)
    assert f"seed: {seed} isn't an integer in [0, 2**63)" in error
    assert not list(tmp_path.iterdir())


def test_a_model_that_is_given_twice_is_refused(tmp_path: Path):
    (tmp_path / "vae" / "pretrained").mkdir(parents=True)
    again = [tmp_path / "vae", tmp_path / "vae" / "pretrained", "--data=glyphs", f"--out={tmp_path / 'out'}"]
    assert "is given twice; give each once" in refused("compare", *again, run=here)
    assert not (tmp_path / "out").exists()
