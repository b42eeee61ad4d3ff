"""Any autoencoder of diffusers as one interface, by what it can do."""

from __future__ import annotations

from hfgen.autoencoders.adapter import Autoencoder
from hfgen.autoencoders.network_calls import Decoded, Encoded, class_fits
from hfgen.autoencoders.probing import Traits, find_traits, traits_at
from hfgen.autoencoders.statistics import Statistics

__all__ = ["Autoencoder", "Decoded", "Encoded", "Statistics", "Traits", "class_fits", "find_traits", "traits_at"]
