"""Seeds derived from names and numbers, so that no two random streams of a run share one."""

from __future__ import annotations

import hashlib

from hfgen.errors import SettingsError


def check_seed(seed: object) -> int:
    """The seed, if torch's generators take it.

    Raises:
        SettingsError: it is no integer in [0, 2**63).
    """
    if type(seed) is not int or not 0 <= seed < 2**63:
        said = seed if isinstance(seed, str) else repr(seed)
        raise SettingsError(f"seed: {said} isn't an integer in [0, 2**63); give one")
    return seed


def derive_seed(*parts: int | str) -> int:
    """A seed in [0, 2**63) that depends on every part, its type and its place.

    The first 63 bits of the SHA-256 of the parts' `repr`: the same on every platform and Python version.
    """
    for part in parts:
        # A bool, a numpy integer or a tensor would have another repr than the number it stands for.
        if type(part) not in (int, str):
            raise ValueError(f"a seed is derived from int and str, not from {type(part).__name__}")
    digest = hashlib.sha256(repr(parts).encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") >> 1
