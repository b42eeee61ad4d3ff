"""The exact posterior of a glyph given its latent: what a decoder could draw, and what it does draw."""
