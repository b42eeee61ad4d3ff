"""Numeric settings that no run can have are refused by name, in every family, before any work."""

import re
from pathlib import Path
from typing import get_type_hints

import pytest
import torch
from tiny import TINY, tiny_config

from hfgen.errors import UserError
from hfgen.families import FAMILIES


def numeric(family: str) -> list[str]:
    return [name for name, kind in get_type_hints(FAMILIES[family]).items() if kind in (int, float)]


def built(family: str, data: Path, name: str, value: int) -> list[torch.nn.Module]:
    """The networks of a small run with this setting; of fine-tuning, which builds none, those beside the model."""
    torch.manual_seed(0)
    if family in TINY:
        model = tiny_config(family, data, f"--model.{name}={value}").model
    else:
        model = FAMILIES[family](**{name: value})
    return list(model.build(16, 1, 3).values())


@pytest.mark.parametrize("family", FAMILIES)
def test_negative_settings_are_refused_by_name(family, tmp_path):
    assert len(numeric(family)) > 7
    for name in numeric(family):
        with pytest.raises(UserError, match=rf"^model\.{name}: -1(\.0)? "):
            built(family, tmp_path, name, -1)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_setting_of_zero_is_refused_by_name_or_can_be_built(family, tmp_path):
    refused = set()
    for name in numeric(family):
        try:
            networks = built(family, tmp_path, name, 0)
        except UserError as error:
            assert str(error).startswith(f"model.{name}: 0"), error
            refused.add(name)
        else:
            assert all(parameter.numel() for network in networks for parameter in network.parameters())
    never = {name for name in numeric(family) if "width" in name or re.search("(^|_)lr(_|$)", name)} - {"lr_end"}
    assert never and never <= refused


@pytest.mark.parametrize("family", [family for family in FAMILIES if "max_width" in numeric(family)])
@pytest.mark.parametrize("widths", [(48, 64), (80, 128), (64, 16)], ids=str)
def test_every_pair_of_widths_can_be_normalised(family, widths, tmp_path):
    width, most = widths
    model = tiny_config(family, tmp_path, f"--model.width={width}", f"--model.max_width={most}").model
    model.build(16, 1, 3)


@pytest.mark.parametrize("family, name", [("vae", "kl_warmup"), ("vaegan", "adversarial_warmup"), ("gan", "lr_end")])
def test_a_share_is_no_number_of_images(family, name, tmp_path):
    with pytest.raises(UserError, match=rf"^model\.{name}: 2000\.0 isn't in \[0, 1\]; it is a share"):
        built(family, tmp_path, name, 2000)
