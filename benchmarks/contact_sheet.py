"""Frames of several clips in one picture, each with a line on what it is."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

_COLUMNS = 4
_WIDTH_IN, _HEIGHT_IN, _DPI = 3.6, 3.3, 80
_LINE = 46  # characters


@dataclass(frozen=True)
class Tile:
    """One frame of a sheet.

    Attributes:
        image: uint8 (H, W, 3).
        caption: what it is.
        colour: of the caption.
    """

    image: npt.NDArray[np.uint8]
    caption: str
    colour: str


def contact_sheet(tiles: Sequence[Tile], path: Path) -> Path:
    """Draw a sheet as PNG, row by row in the order of the tiles.

    Args:
        tiles: at least one.
        path: the file.

    Returns:
        ``path``.
    """
    rows = math.ceil(len(tiles) / _COLUMNS)
    figure = Figure(figsize=(_COLUMNS * _WIDTH_IN, rows * _HEIGHT_IN), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    for number, tile in enumerate(tiles, 1):
        axes = figure.add_subplot(rows, _COLUMNS, number)
        axes.imshow(tile.image)
        axes.set_axis_off()
        axes.set_title("\n".join(textwrap.wrap(tile.caption, _LINE)), fontsize=8, color=tile.colour, loc="left")
    figure.savefig(path, format="png")
    return path
