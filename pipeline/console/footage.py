"""A data set as the commands open it: what is passed over is told, in lines at first and as a count at the end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from pipeline.datasets.base import Dataset, Need
from pipeline.datasets.detect import open_dataset
from pipeline.datasets.fetched import fetched_footage
from pipeline.remote_files import is_address

_MOST_LINES = 50  # of thousands of thumbnails
_NAMED = 3


def open_footage(place: str | Path, *, need: Need, err: Console, frame_step: int = 1) -> Dataset:
    """Open a data set, and say of each file and folder that is not used which it is and why.

    Args:
        place: folder, or address of one that fsspec has a driver for, of which a copy is made first.
        need: as for ``open_dataset``.
        err: where it is said.
        frame_step: every how many-th frame of training footage is used; two of each clip are needed.

    Raises:
        DatasetError: as ``open_dataset`` and ``fetched_footage`` do.
    """

    def say(line: str) -> None:
        err.print(line, markup=False, highlight=False)

    root = fetched_footage(str(place), say) if is_address(str(place)) else Path(place)
    dataset = open_dataset(root, need=need, least_frames=frame_step + 1)
    lines = dataset.passed_over
    for line in lines[:_MOST_LINES]:
        err.print(f"passed over: {line}", markup=False, highlight=False, style="yellow")
    if len(lines) > _MOST_LINES:
        err.print(f"passed over: {len(lines) - _MOST_LINES:,} more", markup=False, highlight=False, style="yellow")
    return dataset


def passed_over_count(lines: Sequence[str]) -> str:
    """What a command says at its end of what it did not use; empty where it used all."""
    if not lines:
        return ""
    more = f"; and {len(lines) - _NAMED:,} more" if len(lines) > _NAMED else ""
    return f"passed over {len(lines):,}: {'; '.join(lines[:_NAMED])}{more}"
