"""What people write for a place on the Hub, and the names that the Hub refuses."""

import pytest

from hfgen.errors import HubError
from hfgen.hub.addresses import Address, check_repository, parse_address
from hfgen.hub.downloads import commit_of


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("org/name", Address("org/name")),
        ("org/name/", Address("org/name")),
        ("org/name@main", Address("org/name", "", "main")),
        ("org/name/vae", Address("org/name", "vae")),
        ("org/name/a/b@v1.0", Address("org/name", "a/b", "v1.0")),
        ("org/name@refs/pr/1", Address("org/name", "", "refs/pr/1")),
        ("https://huggingface.co/org/name", Address("org/name")),
        ("https://huggingface.co/org/name/tree/main/vae", Address("org/name", "vae", "main")),
        ("huggingface.co/org/name/blob/v1/x.safetensors", Address("org/name", "x.safetensors", "v1")),
        ("hf://org/name/vae", Address("org/name", "vae")),
    ],
)
def test_an_address_is_read_and_written(text: str, address: Address):
    assert parse_address(text) == address
    assert parse_address(str(address)) == address


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("org/name@", "no revision after the @"),
        ("org/../x", "isn't a repository's name"),
        ("org/name/../x", "isn't a folder of a repository"),
        ("org/name//vae", "isn't a folder of a repository"),
        ("https://example.com/org/name", "isn't a repository's name"),
    ],
)
def test_what_is_no_address_is_refused(text: str, words: str):
    with pytest.raises(HubError, match=words) as error:
        parse_address(text)
    assert str(error.value).startswith("model: ") and "\n" not in str(error.value)


def test_two_revisions_are_refused():
    assert parse_address("org/name", "v1").revision == parse_address("org/name@v1", "v1").revision == "v1"
    with pytest.raises(HubError, match="names revision v1, and revision is v2"):
        parse_address("org/name@v1", "v2")


@pytest.mark.parametrize(
    "id",
    [
        *("name", "/name", "org/", "org/na me", "org/na--me", "org/na..me", "org/.name", "org/name-", "-org/name"),
        *(
            "org/name.git",
            "org/näme",
            "org/" + "x" * 97,
            "x" * 60 + "/" + "x" * 60,
            "a/b/c",
            "org/na:me",
            "",
            "org/n\n",
        ),
    ],
)
def test_a_name_that_the_hub_refuses_is_refused_before(id: str):
    with pytest.raises(HubError, match=r"^to: ") as error:
        check_repository(id, "to")
    assert "give ORG/NAME" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("id", ["org/name", "o/n", "Org-1/na_me.v2", "0rg/x" + "y" * 80])
def test_a_name_that_the_hub_takes_is_taken(id: str):
    check_repository(id, "to")


def test_the_commit_of_a_cached_folder(tmp_path):
    snapshot = tmp_path / "hub" / "models--org--name" / "snapshots" / ("a" * 40)
    assert commit_of(snapshot) == commit_of(snapshot / "vae") == "a" * 40
    assert commit_of(tmp_path / "snapshots" / "run") is None and commit_of(tmp_path) is None
