"""An uploaded file -> pixels, or one line that says why not. Nothing of it is kept."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from hfgen.data.decode import DamagedImage, Rules, decode
from hfgen.errors import DataError, UserError
from hfgen.images import from_pil

if TYPE_CHECKING:
    from PIL import Image

MOST_BYTES = 8 * 2**20
MOST_PIXELS = 4096**2
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".jp2", ".pbm", ".pgm", ".ppm")
"""Of the formats; not every system knows all of them as images."""

# Of those that `hfgen.data` reads the ones without code or links to other files. AVIF needs Pillow 11.3.
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM")


class Upload:
    """An image file within the limits, decoded for each model's size.

    Attributes:
        notes: What was done to the image, in words.
    """

    def __init__(self, path: Path) -> None:
        """Read the file.

        Raises:
            UserError: it is none of the formats, too large, or damaged.
        """
        self._bytes = _read(path)
        self.notes = _inspect(self._bytes)

    def pixels(self, resolution: int, channels: int) -> Tensor:
        """uint8 (1, C, R, R): the centre square, brought to the size; a smaller one is padded, not enlarged.

        Raises:
            UserError: the pixels are damaged.
        """
        try:
            image = decode({"bytes": self._bytes, "path": None}, "the image", Rules(resolution, channels, "pad"))
        except DamagedImage as error:
            raise DataError(f"image: it can't be read ({_one_line(error)}); save it again as PNG or JPEG") from None
        return from_pil([image], channels)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise DataError(f"image: it can't be read ({error.strerror or error}); give another file") from None
    if len(content) > MOST_BYTES:
        raise DataError(f"image: the file is larger than {MOST_BYTES // 2**20} MiB; give a smaller one")
    if not content:
        raise DataError("image: the file is empty; give another")
    return content


def _inspect(content: bytes) -> list[str]:
    """Look at the size before the pixels take memory, then at what is unusual."""
    from PIL import Image

    Image.init()
    known = [name for name in _FORMATS if name in Image.OPEN]
    try:
        with Image.open(io.BytesIO(content), formats=known) as image:
            if image.width * image.height > MOST_PIXELS:
                raise DataError(_too_many(f"{image.width} x {image.height}"))
            return _notes(image)
    except UserError:
        raise
    except Image.DecompressionBombError:
        raise DataError(_too_many("its")) from None
    except Exception:  # On damaged bytes Pillow's plugins raise almost anything.
        raise DataError(f"image: this is no {', '.join(known)} that can be read; give another file") from None


def _notes(image: Image.Image) -> list[str]:
    notes = {
        f"the centre square of {image.width} x {image.height} pixels": image.width != image.height,
        "the first of several frames": getattr(image, "is_animated", False),
        "turned as its EXIF says": _orientation(image) != 1,
        "16-bit levels scaled to 8 bits": image.mode.startswith("I"),
        "transparency composited on white": image.has_transparency_data,
        "CMYK converted to RGB without a colour profile": image.mode == "CMYK",
    }
    return [note for note, applies in notes.items() if applies]


def _orientation(image: Image.Image) -> int:
    """1 is upright. A PNG may have its EXIF behind the pixels, which are read for it; damage is told later."""
    try:
        return image.getexif().get(0x0112, 1)
    except Exception:  # On damaged bytes Pillow's plugins raise almost anything.
        return 1


def _too_many(size: str) -> str:
    return f"image: {size} pixels are more than {MOST_PIXELS:,}; give a smaller image"


def _one_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0][:120]
