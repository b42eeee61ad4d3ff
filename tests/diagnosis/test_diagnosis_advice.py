"""Every sentence follows from the numbers."""

import pytest

from hfgen.diagnosis.advice import advise
from hfgen.diagnosis.data_quality import DataQuality
from hfgen.diagnosis.ranking import rank
from hfgen.diagnosis.verdict import conclude
from hfgen.metrics import Estimate

SHARP_DATA = DataQuality(blur=0.4, blurred=False, kept=1.0, cutoff=0.5, repeated=False, jpeg=1.1)


def entry(value: float, width: float = 0.02) -> dict:
    return Estimate(value, value - width, value + width, 100).as_dict()


def link(stage: str, power: float, kid: float = 0.1) -> dict:
    return {"stage": stage, "power": {"high": entry(power)}, "kid": entry(kid, 0.005)}


def document(causes: dict[str, float], chain: list[dict], **more) -> dict:
    base = {
        "causes": {"data": entry(0, 0), **{name: entry(value) for name, value in causes.items()}},
        "chain": chain,
        "identity": None,
        "data_quality": SHARP_DATA._asdict(),
        "latent": {"numbers": 16, "codebook_size": None, "active_units": entry(3), "rate_bits": entry(9)},
        "variety": None,
        **more,
    }
    return {**base, "ranking": rank(base)}


@pytest.mark.parametrize(
    ("cause", "setting"),
    [
        ("bottleneck", "--model.latent_channels"),
        ("network", "--model.width"),
        ("noise", "--model.kl_weight"),
        ("decoder", "--max_images"),
        ("encoder", "--max_images"),
        ("data", "--resolution"),
        ("generator", "gan-r3"),
    ],
)
def test_the_largest_cause_is_named_first_with_what_to_change(cause: str, setting: str):
    found = document({cause: 0.6, "unexplained": 0.1, "missing": 0.7}, [link("prior_sample", 0.3)])
    assert [row["cause"] for row in found["ranking"]] == [cause]
    sentences = advise(found)
    assert "blurred" in sentences[0] and setting in sentences[1] and "60 %" in sentences[1]


def test_codes_are_advised_on_with_their_use():
    latent = {"numbers": None, "codebook_size": 4, "codebook_perplexity": entry(3.5), "codebook_usage": entry(1.0)}
    found = document({"codes": 0.6, "missing": 0.6}, [link("mean", 0.4)], latent=latent)
    assert "--model.codes" in advise(found)[1] and "of 4 codes" in advise(found)[1]


def test_a_sharp_model_is_told_so():
    found = document({"bottleneck": 0.15, "missing": 0.1}, [link("prior_sample", 0.9)])
    assert [row["cause"] for row in found["ranking"]] == ["sharp"]
    assert "sharp" in advise(found)[0] and "blurred" not in advise(found)[0]


def test_a_prior_whose_samples_a_fitted_density_beats_is_named_though_they_are_sharp():
    chain = [link("fitted_density", 0.95, kid=0.1), link("prior_sample", 0.95, kid=1.0)]
    found = document({"bottleneck": 0.05, "prior": 0.0, "missing": 0.05}, chain)
    assert found["ranking"][0] == {"cause": "prior", "score": pytest.approx(0.9), "of": "samples' KID"}
    assert "--model.prior" in advise(found)[1]
    chain[1] = link("prior_sample", 0.95, kid=0.105)
    assert document({"prior": 0.0, "missing": 0.05}, chain)["ranking"][0]["cause"] == "sharp"


def test_what_a_prior_costs_is_measured_by_what_a_slight_blur_costs_real_images():
    """The same numbers on the scale of a judge that sees little, and of one that sees much."""
    chain = [link("fitted_density", 0.95, kid=0.1), link("prior_sample", 0.95, kid=0.3)]
    causes = {"prior": 0.0, "missing": 0.05}
    of_real = {"baseline": {"kid": entry(0.06, 0.005)}}
    for blur, cause in ((0.02, "prior"), (0.19, "prior"), (0.21, "sharp")):
        ranking = document(causes, chain, kid_of_blur=blur, **of_real)["ranking"]
        assert ranking[0]["cause"] == cause
    # Of what the samples have beyond real images.
    assert document(causes, chain, kid_of_blur=0.02, **of_real)["ranking"][0]["score"] == pytest.approx(0.2 / 0.24)
    nearer = [link("fitted_density", 0.95, kid=0.01), chain[1]]
    assert document(causes, nearer, **of_real)["ranking"][0]["score"] == pytest.approx(1.0)


def test_of_blurred_images_the_causes_of_blur_come_first():
    chain = [link("fitted_density", 0.5, kid=0.05), link("prior_sample", 0.5, kid=0.2)]
    ranking = document({"codes": 0.3, "decoder": 0.15, "prior": 0.02, "missing": 0.5}, chain)["ranking"]
    assert [row["cause"] for row in ranking] == ["codes", "decoder", "prior"]
    assert ranking[2] == {"cause": "prior", "score": pytest.approx(0.75), "of": "samples' KID"}
    # A prior whose samples lack power is a cause of blur like others, and named once.
    ranking = document({"codes": 0.1, "prior": 0.4, "missing": 0.5}, chain)["ranking"]
    assert ranking == [{"cause": "prior", "score": 0.4, "of": "high-frequency power"}]


def test_missing_classes_are_named():
    group = {"name": "Q", "real": 0.3, "drawn": entry(0.0), "members": [1, 2]}
    variety = {"kind": "classes", "missing_share": 0.3, "missing": [group]}
    found = document({"generator": 0.1, "missing": 0.1}, [link("prior_sample", 0.9)], variety=variety)
    assert found["ranking"][0]["cause"] == "modes" and "Q" in advise(found)[1] and "--model.loss" in advise(found)[1]
    blurred = document({"generator": 0.8, "missing": 0.8}, [link("prior_sample", 0.2)], variety=variety)
    assert [row["cause"] for row in blurred["ranking"]] == ["generator"]


def test_averaging_is_said_where_the_gain_is_1_and_denied_where_it_is_not():
    chain = [link("decoder", 0.1), link("adversarial", 0.7), link("mean", 0.1)]

    def of_gain(value: float) -> dict:
        return {"high": {"gain": entry(value), "coherence": entry(0.1), "power": entry(0.1)}}

    found = document({"bottleneck": 0.9, "missing": 0.9}, chain, bands=of_gain(1.0))
    assert any("averaged" in text and "70 %" in text for text in advise(found))
    for value, words in ((0.4, "made up"), (1.6, "fainter")):
        found = document({"missing": 0.0}, [link("mean", 1.0)], bands=of_gain(value))
        assert any(words in text and "70 %" not in text for text in advise(found))


def test_much_missing_power_without_a_cause_is_called_unexplained():
    found = document({"unexplained": 0.5, "missing": 0.5}, [link("prior_sample", 0.5)])
    assert found["ranking"] == [{"cause": "unexplained", "score": 0.5, "of": "high-frequency power"}]
    assert any("no intervention says why" in text for text in advise(found))


def test_what_is_unexplained_comes_after_the_causes():
    found = document({"noise": 0.2, "unexplained": 0.5, "missing": 0.7}, [link("prior_sample", 0.3)])
    assert [row["cause"] for row in found["ranking"]] == ["noise", "unexplained"]


@pytest.mark.parametrize(
    ("unread", "bottleneck", "first"),
    [(0.6, 0.03, "the detail that decoded latents lack is in the latent"), (0.03, 0.6, "what the latent doesn't say")],
)
def test_where_the_latent_is_known_exactly_the_headline_says_what_is_in_it(
    unread: float, bottleneck: float, first: str
):
    exact = {"n": 24, "converged": 24, "share_decoder": entry(0.95)}
    causes = {"unread": unread, "bottleneck": bottleneck, "missing": 0.63}
    found = document(causes, [link("mean", 0.37), link("exact", 1 - bottleneck)], exact=exact)
    sentences = advise(found)
    assert first in sentences[0] and "exactly, of 24 images" in sentences[1]
    assert ("not a larger latent" in sentences[0]) == ("A larger latent isn't needed" in sentences[1]) == (unread > 0.5)


def test_a_bottleneck_is_at_most_so_much():
    found = document({"bottleneck": 0.6, "missing": 0.6}, [link("mean", 0.4)])
    blurred, lost = advise(found)[:2]
    assert blurred.endswith("first cause: the latent's size, or more training than was tried.")
    assert lost.startswith("At most 60 %") and "isn't shown" in lost and "study posterior" not in lost
    assert "`hfgen study posterior` tells" in advise({**found, "data": {"id": "glyphs"}})[1]


@pytest.mark.parametrize(("share", "order"), [(0.02, ["decoder", "pattern"]), (0.8, ["pattern", "decoder"])])
def test_a_fault_with_less_of_the_power_than_a_cause_comes_after_it(share: float, order: list[str]):
    pattern = {"name": "pattern", "severity": "fault", "measured": entry(3.0), "what": "amplitude", "threshold": 2.0}
    pattern |= {"confidence": 1.0, "share": share, "of": "high-frequency power", "text": "A pattern.", "remedy": "x"}
    found = document({"decoder": 0.5, "missing": 0.5}, [link("mean", 0.5)], gates=[pattern], leads={"decoder": 1.0})
    found |= {"model": {"id": "m"}, "data": {"id": "d"}}
    said = conclude(found)
    assert [row["cause"] for row in said["ranking"]] == order
    assert said["verdict"]["cause"] == order[0] and any("A pattern." in text for text in said["advice"])
    assert ("A pattern." in said["verdict"]["sentence"]) == (order[0] == "pattern")


def test_a_smaller_cause_is_as_sure_as_that_its_share_counts():
    causes = {"noise": 0.4, "decoder": 0.3, "encoder": 0.105, "missing": 0.805}
    found = document(causes, [link("mean", 0.195)], gates=[], leads={"noise": 1.0, "decoder": 0.0, "encoder": 0.0})
    found |= {"model": {"id": "m"}, "data": {"id": "d"}}
    said = conclude(found)
    noise, decoder, encoder = (row["confidence"] for row in said["ranking"])
    assert noise == said["verdict"]["confidence"] == 1.0
    # None of the resamples has it first, and its interval is far above what is worth naming.
    assert decoder > 0.99 and 0.6 < encoder < 0.8


@pytest.mark.parametrize(
    ("behind", "refits", "is_said"), [(-0.1, False, True), (0.01, False, False), (-0.1, True, False)]
)
def test_where_nothing_was_tried_a_latent_that_is_used_is_said_to_be(behind: float, refits: bool, is_said: bool):
    floor = {
        "name": "under_trained",
        "severity": "passed",
        "measured": entry(behind),
        "what": "share beyond 4 components",
    }
    found = document({"unexplained": 0.9, "missing": 0.9}, [link("mean", 0.1)], gates=[floor], leads={})
    found |= {"model": {"id": "m"}, "data": {"id": "d"}, "protocol": {"refits": refits, "budget": {"refit_steps": 9}}}
    assert any("does use its latent: -0.1" in text for text in conclude(found)["advice"]) == is_said


@pytest.mark.parametrize(("width", "first", "words"), [(0.02, "prior", "are blurred"), (0.1, "sharp", "isn't clear")])
def test_images_are_called_blurred_only_where_their_whole_interval_says_so(width: float, first: str, words: str):
    found = document({"prior": 0.2, "unexplained": 0.14, "missing": 0.34}, [link("prior_sample", 0.66)])
    found["causes"]["missing"] = entry(0.34, width)
    found["ranking"] = rank(found)
    assert found["ranking"][0]["cause"] == first and words in advise(found)[0]
