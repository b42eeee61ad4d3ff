"""The built-in data sets and what may be done with small images, known without torch: parsers and cards read it."""

from __future__ import annotations

import string
from dataclasses import dataclass
from typing import Literal

SmallImages = Literal["refuse", "pad", "upscale"]
"""What to do with an image whose shorter side is below the resolution."""


@dataclass(frozen=True)
class BuiltIn:
    """A data set that is drawn instead of fetched.

    Attributes:
        channels: 1 (grey) or 3 (RGB).
        characters: What a channel may show; a label counts through them, channel by channel.
        license: Of the images.
    """

    channels: int
    characters: str
    license: str = "mit"

    @property
    def label_names(self) -> list[str]:
        """The name of each class."""
        names = [""]
        for _ in range(self.channels):
            names = [name + character for name in names for character in self.characters]
        return names

    @property
    def label_factors(self) -> tuple[int, ...]:
        """Sizes of the independent factors that make up a label, the most significant first."""
        return (len(self.characters),) * self.channels


BUILT_IN = {
    "glyphs": BuiltIn(1, string.digits + string.ascii_uppercase),
    "stacked": BuiltIn(3, string.digits),
}
DEFAULT_DATA = next(iter(BUILT_IN))
