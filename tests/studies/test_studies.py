"""`hfgen study` from end to end: all ten, killed and continued, on a budget that decides nothing."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import forks
import pytest
import torch
from pictures import without_pictures

from hfgen.cli import main
from hfgen.data import glyphs
from hfgen.devices import choose
from hfgen.errors import UserError
from hfgen.evaluation import held_out
from hfgen.metrics.reader import reader
from hfgen.models import classifier
from hfgen.pipelines import FlowPipeline, load
from hfgen.studies import cell_plan
from hfgen.studies.cell_plan import jobs_of
from hfgen.studies.cells import BUDGETS, Cell, cell_folder, config_of
from hfgen.studies.run_studies import STUDIES, run_studies
from hfgen.training.config import RunConfig

# A quarter, among which are all the thousand classes of `stacked`.
FEW = {"train": 7_500, "test": 100}
# Nothing here is decided: its judges learn a tenth as long.
JUDGE_STEPS = 47


@pytest.fixture(scope="module", autouse=True)
def few_images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The built-in sets have as many images, in a cache that others don't see."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HFGEN_CACHE", str(tmp_path_factory.mktemp("few")))
        for split, count in FEW.items():
            patch.setitem(glyphs.SPLIT_SIZES, split, count)
        patch.setattr(classifier, "_MOST_STEPS", JUDGE_STEPS)
        # A flow's decoder in a tenth of its passes.
        patch.setattr(FlowPipeline, "steps", 2)
        trained = held_out._held_out, reader
        for kept in trained:
            kept.cache_clear()
        yield
        for kept in trained:
            kept.cache_clear()


def _study(out: Path) -> None:
    glyphs.SPLIT_SIZES.update(FEW)
    classifier._MOST_STEPS = JUDGE_STEPS
    sys.exit(main(["study", "--budget", "smoke", "--out", str(out)]))


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[Path, int]]:
    """A folder in which a study was killed after its first cells, and when these were measured."""
    out = tmp_path_factory.mktemp("study")
    log = out.with_name("log.txt")
    process = forks.start(_study, (out,), os.environ, log, log)
    while len(list(out.glob("cells/*/record.json"))) < 2:
        assert process.is_alive(), log.read_text()
        time.sleep(0.1)
    process.kill()
    process.join()
    assert not (out / "study.json").exists()
    return out, {path: path.stat().st_mtime_ns for path in out.glob("cells/*/record.json")}


@pytest.fixture(scope="module")
def finished(killed) -> Path:
    """The same, continued to its end."""
    run_studies([], killed[0], budget="smoke")
    return killed[0]


def test_a_killed_study_goes_on_where_it_was(killed, finished):
    assert all(path.stat().st_mtime_ns == made for path, made in killed[1].items())


def test_every_claim_has_its_numbers_and_one_seed_decides_none(finished):
    document = json.loads((finished / "study.json").read_text())
    assert [study["name"] for study in document["studies"]] == list(STUDIES)
    claims = [claim for study in document["studies"] for claim in study["claims"]]
    assert len(claims) == document["sentences"]
    assert {claim["verdict"] for claim in claims} == {"undecided"}
    assert all(claim["effect"] is None or claim["effect"]["p"] is None for claim in claims)
    assert sum(claim["effect"] is not None for claim in claims) > 20
    assert len(document["verdicts"]) == len(claims)
    assert all(row["claim"] and row["number"] and "/" in row["id"] for row in document["verdicts"])


def test_one_sentence_alone_needs_its_cells_alone(finished, tmp_path):
    (tmp_path / "cells").symlink_to(finished / "cells")
    document = run_studies(["loss/price"], tmp_path, budget="smoke")
    (study,) = document["studies"]
    assert set(study["cells"]) == {"L2", "L2 + adversarial"} and [row["id"] for row in document["verdicts"]] == [
        "loss/price"
    ]
    assert "hfgen study loss/price" in (tmp_path / "report.html").read_text()
    (tmp_path / "study.json").write_text(json.dumps({**document, "schema": 1}))
    with pytest.raises(UserError, match=r"out: .*study.json has schema 1, not 2; give another --out"):
        run_studies(["loss/mean"], tmp_path, budget="smoke")


def test_a_plan_is_a_trial_times_its_cells_and_writes_nothing(tmp_path, monkeypatch, caplog):
    # Runs of 16 and 32 images, an evaluation, the study's measurements: real work by a clock of ours.
    clock = iter((2.0, 3.0, 4.0, 5.0))

    def seconds(work: Callable[[], object]) -> float:
        work()
        return next(clock)

    for name, fake in {"_SHORT": 16, "_LONG": 32, "_seconds": seconds}.items():
        monkeypatch.setattr(cell_plan, name, fake)
    monkeypatch.setitem(BUDGETS, "full", BUDGETS["full"]._replace(n=48))
    with caplog.at_level("INFO", "hfgen"):
        assert main(["study", "noise/error", "--dry_run", f"--out={tmp_path / 'out'}"]) == 0
    assert "8 cells, 8 of them to do, which see 512,000 images" in caplog.text
    # (1 + 64,000 / 16 + 4 + 5) x 8
    assert f"about {8 * 4010 / 3600:.1f} h of one process" in caplog.text
    assert not (tmp_path / "out").exists()


def test_cells_are_shared_between_studies(finished):
    made = len(list(finished.glob("cells/*/record.json")))
    cells = [cell for study in STUDIES.values() for cell in study.cells.values()]
    distinct = {config_of(cell, BUDGETS["smoke"], "glyphs", 0) for cell in cells}
    assert made == len(distinct) < len(cells)


def test_a_repeated_study_trains_nothing_and_writes_the_same(finished):
    before = (finished / "study.json").read_bytes()
    records = {path: path.stat().st_mtime_ns for path in finished.glob("cells/*/record.json")}
    run_studies(["loss/price", "loss/mean"], finished, budget="smoke")
    assert [path.stat().st_mtime_ns for path in records] == list(records.values())
    # Two sentences alone are decided alike from what is there, and leave the others' verdicts in place.
    assert (finished / "study.json").read_bytes() == before


def test_a_changed_cell_is_another(tmp_path):
    cell = STUDIES["loss"].cells["L2"]
    folders = {
        cell_folder(tmp_path, config_of(each, BUDGETS["smoke"], "glyphs", seed), 48)
        for each in (cell, cell._replace(overrides=(*cell.overrides, "--model.variance=0.03")))
        for seed in (0, 1)
    }
    assert len(folders) == 4


def test_a_cell_is_named_by_the_one_that_it_begins_with_and_waits_for_it(tmp_path):
    study = STUDIES["latent"]
    compute, small = choose("cpu", "fp32"), BUDGETS["smoke"]

    def make_config(cell: Cell, seed: int) -> RunConfig:
        return config_of(cell, small, "glyphs", seed)

    start, *others = jobs = list(jobs_of(study, ["price"], tmp_path, make_config, small, compute))
    assert [job.label for job in jobs] == ["VAE", "L2", "L2 + PatchGAN", "flow"] and start.ready
    assert {job.config.start_from for job in others} == {start.folder.name} and not any(job.ready for job in others)
    start.folder.mkdir()
    (start.folder / "record.json").touch()
    assert all(job.ready for job in others)
    cell = study.cells["flow"]
    assert cell.start is not None
    changed = cell._replace(start=cell.start._replace(overrides=(*cell.start.overrides, "--model.variance=0.03")))
    assert cell_folder(tmp_path, make_config(changed, 0), small.n) not in {job.folder for job in jobs}


def test_decoders_share_one_frozen_encoder(finished):
    document = json.loads((finished / "study.json").read_text())
    cells = next(study["cells"] for study in document["studies"] if study["name"] == "latent")
    networks = {label: load(finished / cell["folders"][0]).vae for label, cell in cells.items()}
    vae = networks.pop("VAE")
    for label, network in networks.items():
        for name, weight in vae.encoder.state_dict().items():
            assert torch.equal(network.encoder.state_dict()[name], weight), f"{label}: {name}"
    assert not torch.equal(networks["L2"].decoder.conv_out.bias, vae.decoder.conv_out.bias)
    between = {label: cell["metrics"]["hf_between_draws"]["value"] for label, cell in cells.items()}
    assert between.pop("flow") > 0 and set(between.values()) == {0.0}


def test_columns_are_those_of_the_given_data_and_name_another_cell(tmp_path):
    studies = STUDIES["loss"].cells["L2"], next(c for s in STUDIES.values() for c in s.cells.values() if c.data)
    columns = {"image_column": "render", "label_column": None, "config_name": "small"}
    own, others = (config_of(cell, BUDGETS["smoke"], "org/set", 0, columns) for cell in studies)
    assert (own.image_column, own.label_column, own.config_name) == ("render", "", "small")
    assert (others.data, others.image_column) == (studies[1].data, "")
    assert cell_folder(tmp_path, own, 48) != cell_folder(
        tmp_path, config_of(studies[0], BUDGETS["smoke"], "org/set", 0), 48
    )


def test_the_page_has_no_serious_violation(finished):
    from browser import page_violations

    assert page_violations(finished / "report.html") == []


def test_the_page_needs_nothing_else_and_shows_every_claim(finished):
    page = (finished / "report.html").read_text()
    assert page.count('<svg class="chart" role="img"') == sum(len(study.panels) for study in STUDIES.values())
    assert "http" not in without_pictures(page) and page.count("<h1>") == 1 and "Nothing is decided" in page
    for study in STUDIES.values():
        assert all(
            f"{study.name}/{claim.id}" in page and claim.says[:40].replace("'", "&#39;") in page
            for claim in study.claims
        )
        assert (finished / "figures" / f"{study.name}.svg").is_file()


def test_cells_are_evaluation_datasets(finished):
    from hfgen.evaluation.verification import verify

    assert verify(next(iter(sorted(finished.glob("cells/vae-*"))))) > 10


def test_unknown_studies_are_named(tmp_path):
    with pytest.raises(UserError, match=r"claim: 'blur' isn't a study; choose some of bottleneck"):
        run_studies(["blur"], tmp_path)
    with pytest.raises(UserError, match=r"claim: 'loss/blurry' isn't a sentence; choose some of loss/blur, loss/mean"):
        run_studies(["loss/blurry"], tmp_path)
    with pytest.raises(UserError, match=r"budget: 'tiny' is unknown"):
        run_studies([], tmp_path, budget="tiny")
    with pytest.raises(UserError, match=r"data: no such folder \./nowhere"):
        run_studies(["loss"], tmp_path, data="./nowhere")
    assert not list(tmp_path.iterdir())
