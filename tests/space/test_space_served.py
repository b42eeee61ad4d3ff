"""The Space as its visitors meet it: a real server, every named endpoint, two users, and those who mean harm."""

import base64
import io
import json
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hfgen.data import draw
from hfgen.space.uploads import MOST_BYTES

gradio_client = pytest.importorskip("gradio_client")

KNOBS = {"example": 0, "keep": 100, "noise": 0, "average": False, "posterior": False, "quantise": True, "seed": 0}
CHOICES = {"seed": 3, "count": 2, "truncation": 4, "temperature": 1, "label": -1, "fitted": True, "steps": 0}


def pixels(uri: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/png;base64,")))))


@pytest.fixture(scope="module")
def client(server):
    return gradio_client.Client(server.url, verbose=False)


def call(url: str, endpoint: str, data: list[Any], query: str = "") -> str:
    """The last event of a call without Gradio's client, which would refuse to send what is sent here."""
    body = json.dumps({"data": data}).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{url}/gradio_api/call/{endpoint}{query}", body, headers)
    event = json.loads(urllib.request.urlopen(request, timeout=300).read())["event_id"]
    return urllib.request.urlopen(f"{url}/gradio_api/call/{endpoint}/{event}", timeout=300).read().decode()


def status(url: str) -> int:
    try:
        return urllib.request.urlopen(url, timeout=300).status
    except urllib.error.HTTPError as error:
        return error.code


def test_every_endpoint_has_a_name_and_a_description(client):
    endpoints = client.view_api(return_format="dict")["named_endpoints"]
    expected = {"reconstruct", "generate", "interpolate", "nearest", "why", "compare", "plane"}
    assert endpoints.keys() == {f"/{name}" for name in expected | {"blind_pair", "blind_guess", "open_view"}}
    assert all(len(endpoint["description"]) > 30 for endpoint in endpoints.values())


def test_reconstruct_an_example_and_an_upload(client, tmp_path: Path):
    glyph = draw("glyphs", "test", 0, 1, 16).images[0, 0].numpy()
    page, values = client.predict(image=None, **KNOBS, api_name="/reconstruct")
    assert 'class="hf-cell"' in page and [one["model"] for one in values["models"]] == ["vae", "vqvae"]
    assert all((pixels(one["original"]) == glyph).all() for one in values["models"])
    Image.fromarray(255 - glyph).save(tmp_path / "mine.png")
    file = gradio_client.handle_file(tmp_path / "mine.png")
    _, values = client.predict(image=file, **KNOBS, api_name="/reconstruct")
    assert all((pixels(one["original"]) == 255 - glyph).all() for one in values["models"])


def test_the_readmes_examples_run(server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    page = (Path(__file__).parents[2] / "hfgen" / "space" / "README.md").read_text(encoding="utf-8")
    examples = [part.partition("```")[0] for part in page.split("```python\n")[1:]]
    Image.new("RGB", (40, 30), "teal").save(tmp_path / "photo.png")
    monkeypatch.chdir(tmp_path)
    exec("\n".join(examples).replace("http://127.0.0.1:7860", server.url), {})
    said = capsys.readouterr().out
    assert "50\N{NO-BREAK SPACE}% of the latent kept" in said and "('gan', 4)" in said


def test_generate_interpolate_and_nearest(client):
    _, values = client.predict(**CHOICES, api_name="/generate")
    assert {one["model"]: len(one["images"]) for one in values["models"]} == {"vae": 2, "vqvae": 2, "gan": 2}
    _, values = client.predict(seed=3, second=4, api_name="/interpolate")
    assert {len(one["images"]) for one in values["models"]} == {9}
    _, values = client.predict(**CHOICES, api_name="/nearest")
    assert all(len(one["nearest"]) == len(one["rms"]) == 2 for one in values["models"])


def test_why_and_compare(client):
    assert "averaging" in client.predict(api_name="/why")
    cards, table, values = client.predict(api_name="/compare")
    assert "20 held-out images" in cards and "comparison.csv" in table
    assert values["models"]["vae"]["psnr"] == {"value": 20, "low": 19.99, "high": 20.01, "n": 20}
    chart, words = client.predict("perception", api_name="/plane")
    assert [one["name"] for one in json.loads(chart["plot"])["data"]] == ["vae", "vqvae"] and "95 %" in words


def test_a_mistake_is_one_line(client, tmp_path: Path):
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(gradio_client.exceptions.AppError, match="image: this is no PNG"):
        client.predict(image=gradio_client.handle_file(tmp_path / "text.png"), **KNOBS, api_name="/reconstruct")
    with pytest.raises(gradio_client.exceptions.AppError, match="Value 99 is greater than maximum value 36"):
        client.predict(**{**CHOICES, "count": 99}, api_name="/generate")
    with pytest.raises(gradio_client.exceptions.AppError, match=r"99 .*is not in the list of choices"):
        client.predict(image=None, **{**KNOBS, "example": 99}, api_name="/reconstruct")


def test_a_link_sets_the_controls(server):
    names = ["example", "keep", "noise", "average", "posterior", "quantise", "noise_seed"]
    names += ["seed", "count", "truncation", "temperature", "label", "fitted", "steps", "second", "axes"]

    def opened(query: str) -> dict[str, Any]:
        last = call(server.url, "open_view", [], query)
        tabs, *values = json.loads(last.rsplit("data: ", 1)[1])
        return {"view": tabs["selected"], **dict(zip(names, values, strict=True))}

    found = opened("?view=generate&seed=7&count=4&truncation=1.5&fitted=0&noise=1.5&average=1")
    wanted = {
        "view": "generate",
        "seed": 7,
        "count": 4,
        "truncation": 1.5,
        "fitted": False,
        "noise": 1.5,
        "average": True,
    }
    assert found.items() >= wanted.items()
    assert opened("?view=compare&axes=rate")["axes"] == "rate"
    nonsense = opened("?view=../../etc&seed=-1&count=1e9&truncation=nan&example=99&keep=x&noise=inf&label=50&axes=x")
    assert nonsense == opened("")
    assert nonsense["view"] == "reconstruct"


def test_two_users_see_their_own_images_and_scores(server, tmp_path: Path):
    users = [gradio_client.Client(server.url, verbose=False) for _ in range(2)]
    for index in range(2):
        Image.new("L", (16, 16), 60 + 100 * index).save(tmp_path / f"{index}.png")

    def ask(turn: int) -> bool:
        index = turn % 2
        file = gradio_client.handle_file(tmp_path / f"{index}.png")
        _, values = users[index].predict(image=file, **KNOBS, api_name="/reconstruct")
        return all((pixels(one["original"]) == 60 + 100 * index).all() for one in values["models"])

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(8)))
    users[0].predict("gan", api_name="/blind_pair")
    for _ in range(2):
        _, score = users[0].predict("left", api_name="/blind_guess")
    assert "of 2;" in score
    with pytest.raises(gradio_client.exceptions.AppError, match="begin a game first"):
        users[1].predict("left", api_name="/blind_guess")


def test_no_file_of_the_server_can_be_read(server, untrained: Path):
    secret = untrained / "vae" / "record.json"
    for path in ("/etc/passwd", str(secret), f"{untrained}/../models/vae/record.json"):
        assert status(f"{server.url}/gradio_api/file={path}") in (403, 404)
        data = {"path": path, "meta": {"_type": "gradio.FileData"}}
        answer = call(server.url, "reconstruct", [data, *KNOBS.values()])
        assert "event: error" in answer and "fingerprint" not in answer and "root:" not in answer
    for link in ("http://127.0.0.1:1/x.png", "http://169.254.169.254/x.png", "file:///etc/passwd"):
        data = {"path": link, "url": link, "meta": {"_type": "gradio.FileData"}}
        assert "event: error" in call(server.url, "reconstruct", [data, *KNOBS.values()])


def test_a_large_upload_is_refused_before_it_is_kept(server):
    boundary = "x" * 20
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'.encode()
    # So little beyond, that the server has read all when it answers: what is sent later would break the connection.
    body = head + b"\0" * (MOST_BYTES + 1) + f"\r\n--{boundary}--\r\n".encode()
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(urllib.request.Request(f"{server.url}/gradio_api/upload", body, headers), timeout=300)
    assert caught.value.code == 413


@pytest.mark.slow
def test_fifty_users_at_once(server, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    import time

    import psutil

    process = psutil.Process(server.process.pid)
    before = process.memory_info().rss
    Image.fromarray(draw("glyphs", "test", 9, 1, 16).images[0, 0].numpy()).save(tmp_path / "image.png")
    users = [gradio_client.Client(server.url, verbose=False) for _ in range(50)]

    def ask(user: Any) -> float:
        start = time.perf_counter()
        user.predict(image=gradio_client.handle_file(tmp_path / "image.png"), **KNOBS, api_name="/reconstruct")
        return time.perf_counter() - start

    with ThreadPoolExecutor(50) as pool:
        seconds = np.array(list(pool.map(ask, users)))
    grown = (process.memory_info().rss - before) / 2**20
    with capsys.disabled():
        print(f"\n50 users: p50 {np.median(seconds):.2f} s, p95 {np.quantile(seconds, 0.95):.2f} s, + {grown:.0f} MiB")
    assert grown < 300
