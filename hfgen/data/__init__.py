"""DATA -> a uint8 store -> batches by images seen; and `glyphs`, the data that needs no network."""

from hfgen.data.batches import batch_indices
from hfgen.data.glyphs import CLASSES, FACTORS, FONTS, SPLIT_SIZES, Glyphs, draw, glyph_unknowns, render
from hfgen.data.held import Data, Held, as_data
from hfgen.data.image_store import ImageStore
from hfgen.data.sources import found_once
from hfgen.data.store import open_store, split_size, stored_side
from hfgen.data.stream import ImageStream
from hfgen.data.stream_opening import open_stream
from hfgen.data.whole_images import WholeImages, whole_images

__all__ = [
    "CLASSES",
    "FACTORS",
    "FONTS",
    "SPLIT_SIZES",
    "Data",
    "Glyphs",
    "Held",
    "ImageStore",
    "ImageStream",
    "WholeImages",
    "as_data",
    "batch_indices",
    "draw",
    "found_once",
    "glyph_unknowns",
    "open_store",
    "open_stream",
    "render",
    "split_size",
    "stored_side",
    "whole_images",
]
