"""Numeric settings that no run can have are refused by name, in every family, before any work."""

import dataclasses

import pytest
import torch
from tiny import TINY, tiny_config

from hfgen.errors import UserError
from hfgen.families import FAMILIES


def _numeric(family: str) -> list[str]:
    return [field.name for field in dataclasses.fields(FAMILIES[family]) if field.type in ("int", "float")]


@pytest.mark.parametrize("family", TINY)
def test_negative_settings_are_refused_by_name(family, tmp_path):
    for name in _numeric(family):
        with pytest.raises(UserError, match=rf"^model\.{name}: -1(\.0)? "):
            tiny_config(family, tmp_path, f"--model.{name}=-1").model.build(16, 1, 3)


@pytest.mark.parametrize("family", TINY)
def test_a_setting_of_zero_is_refused_by_name_or_can_be_trained(family, tmp_path):
    torch.manual_seed(0)
    refused = set()
    for name in _numeric(family):
        try:
            model = tiny_config(family, tmp_path, f"--model.{name}=0").model
            networks = model.build(16, 1, 3)
        except UserError as error:
            assert str(error).startswith(f"model.{name}: 0"), error
            refused.add(name)
        else:
            assert all(parameter.numel() for network in networks.values() for parameter in network.parameters())
    assert {name for name in _numeric(family) if "width" in name or name.startswith("lr_g")} <= refused
