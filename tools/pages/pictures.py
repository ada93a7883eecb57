"""Writes a plot as a picture of few colours: a third of the bytes, and nothing that an eye would miss.

`python -m tools.pages.pictures references/demo-loss.png` rewrites pictures that were drawn elsewhere.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

from unsloth_fft.core import files

# Lines, markers, words and the shades at their edges. The most distant are kept, or a lone marker loses its colour.
COLOURS = 64


def write(figure: Any, path: Path) -> None:
    """`figure` (of matplotlib) as a PNG at `path`."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    files.write_bytes(path, few_colours(buffer.getvalue()))


def few_colours(png: bytes) -> bytes:
    """The same picture with a palette of `COLOURS` in place of four bytes a pixel."""
    from PIL import Image

    picture = Image.open(io.BytesIO(png)).convert("RGB")
    small = picture.quantize(COLOURS, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    buffer = io.BytesIO()
    small.save(buffer, "png", optimize=True)
    return buffer.getvalue()


if __name__ == "__main__":
    for name in sys.argv[1:]:
        files.write_bytes(Path(name), few_colours(Path(name).read_bytes()))
