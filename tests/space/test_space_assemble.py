"""The Space's repository: it says what the Hub wants to hear, and holds all that it needs."""

import json
import os
import runpy
import shutil
import subprocess
import sys
import time
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from commands import forked
from ports import answers, free_port

from hfgen.errors import UserError
from hfgen.space.assemble import Pinned, assemble, fill_card, pin_on_hub

ROOT = Path(__file__).parents[2]
SPACE = ROOT / "spaces" / "compare"
SHA = "a" * 40


def pin(model: str) -> Pinned:
    return Pinned(model.partition("@")[0], SHA, ("model_index.json", "vae/model.safetensors"))


@pytest.fixture(scope="module")
def assembled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("assembled") / "space"
    assemble(SPACE, ["org/vae", "org/gan@main"], out, data="glyphs", pin=pin)
    return out


def test_the_wheel_travels_and_imports_by_itself(assembled: Path, tmp_path: Path):
    wheels = list(assembled.glob("hfgen-*.whl"))
    assert len(wheels) == 1
    names = zipfile.ZipFile(wheels[0]).namelist()
    for wanted in ("hfgen/space/interface.css", "hfgen/schemas/record.schema.json", "hfgen/recipes/vae-glyphs.yaml"):
        assert wanted in names
    zipfile.ZipFile(wheels[0]).extractall(tmp_path)
    program = "import hfgen.space.loaded_models, importlib.metadata as m; print(hfgen.__file__, m.version('hfgen'))"
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {program}"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.startswith(str(tmp_path)), done.stderr


def test_the_models_are_pinned_and_preloaded(assembled: Path):
    assert json.loads((assembled / "models.json").read_text()) == {
        "models": [f"org/vae@{SHA}", f"org/gan@{SHA}"],
        "data": "glyphs",
    }
    fields = yaml.safe_load((assembled / "README.md").read_text().split("---\n")[1])
    assert fields["models"] == ["org/vae", "org/gan"]
    assert ".github" not in (assembled / "README.md").read_text(), "what isn't in the Space's repository"
    assert fields["preload_from_hub"][0] == f"org/vae model_index.json,vae/model.safetensors {SHA}"
    assert fields["sdk"] == "gradio" and fields["app_file"] == "app.py" and len(fields["short_description"]) <= 60


def test_again_gives_the_same_bytes(assembled: Path, tmp_path: Path):
    assemble(SPACE, ["org/vae", "org/gan@main"], tmp_path / "again", data="glyphs", pin=pin)
    for path in assembled.iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes(), path.name


def test_requirements_are_hfgens_but_for_what_a_space_brings():
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    listed = (SPACE / "requirements.txt").read_text().split("\n")[:-1]
    assert listed == [line for line in wanted if not line.startswith("huggingface_hub")]
    assert not any(line.startswith(("gradio", "spaces", "huggingface_hub")) for line in listed)


def test_nothing_half_is_left_of_a_refusal(tmp_path: Path, untrained: Path):
    with pytest.raises(UserError, match="models: none given"):
        assemble(SPACE, [], tmp_path / "out", pin=pin)
    with pytest.raises(UserError, match="publish it first"):
        assemble(SPACE, [str(untrained / "vae")], tmp_path / "out")
    with pytest.raises(UserError, match="short_description"):
        fill_card("---\nshort_description: " + "x" * 61 + "\n---\n", [], None)
    with pytest.raises(UserError, match="doesn't begin"):
        fill_card("# Title", [], None)
    assert not list(tmp_path.iterdir())


def test_a_model_that_the_hub_lacks_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(UserError, match="models: org/none isn't a folder here and can't be fetched"):
        pin_on_hub("org/none")


def test_a_duplicated_space_takes_its_models_from_its_variables(untrained: Path, tmp_path: Path):
    """With the files of an assembled Space beside it, whose models the variables replace."""
    gradio_client = pytest.importorskip("gradio_client")
    shutil.copyfile(SPACE / "app.py", tmp_path / "app.py")
    (tmp_path / "models.json").write_text('{"models": ["org/none"], "data": null}')
    port = free_port()
    variables = {"HFGEN_MODELS": f"{untrained / 'vae'}, {untrained / 'gan'}", "HFGEN_DATA": "glyphs"}
    variables |= {"GRADIO_SERVER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    with (tmp_path / "log.txt").open("wb") as log:
        served = subprocess.Popen(
            [sys.executable, "app.py"], stdout=log, stderr=log, cwd=tmp_path, env={**os.environ, **variables}
        )
    try:
        while not answers(f"http://127.0.0.1:{port}"):
            assert served.poll() is None, (tmp_path / "log.txt").read_text()
            time.sleep(0.1)
        client = gradio_client.Client(f"http://127.0.0.1:{port}", verbose=False)
        choices = {"seed": 3, "count": 1, "truncation": 4, "temperature": 1, "label": -1, "fitted": True, "steps": 0}
        _, values = client.predict(**choices, api_name="/generate")
        assert [one["model"] for one in values["models"]] == ["vae", "gan"]
    finally:
        served.terminate()
        served.wait(60)


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"HFGEN_DATA": "glyphs"}, "HFGEN_DATA: it is set, and HFGEN_MODELS isn't"),
        ({"HFGEN_MODELS": "org/name", "HFGEN_RESOLUTION": "large"}, "HFGEN_RESOLUTION: 'large' isn't a whole number"),
    ],
)
def test_variables_that_say_nothing_are_named(variables: dict[str, str], words: str, monkeypatch: pytest.MonkeyPatch):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    app = runpy.run_path(str(SPACE / "app.py"))
    with pytest.raises(UserError, match=words):
        app["chosen"]()


def _run_app(arguments: list[str]) -> None:
    runpy.run_path(*arguments, run_name="__main__")


def test_the_app_says_how_to_make_models_where_there_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("gradio")
    monkeypatch.chdir(tmp_path)
    done = forked(str(SPACE / "app.py"), work=_run_app)
    assert done.returncode == 1 and "hfgen quickstart" in done.stderr.splitlines()[-1]
