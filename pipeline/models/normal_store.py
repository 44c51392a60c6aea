"""Normal footage beside a model, for thresholds to be measured on: ``calibration.safetensors``. Free of torch.

It holds what was found after training, as scores, and held-out footage as maps, off which scores are read anew where a
camera looks at parts of its image alone. Neither decides a score: the model and its fingerprint stay what they are, and
a model without the file is whole. The file appears whole or not at all, since it is one; its metadata is JSON with a
digest of every tensor and one of itself, so that a damaged byte is noticed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np

from pipeline.models.normal_file import NORMAL_FILE, StoredMaps, read_footage, write_footage
from pipeline.normal_footage import AddedStretch, MapStretch, NormalStretch

MAPS_MB = 256
"""Room that the maps of one model may take, in millions of bytes."""

_PIECES = 16  # at least, that all of the room holds

ADDED_FRAMES = 20_000_000
"""Frames that may be added to one model: 46 days of a camera at 5 frames/s, 160 MB. The oldest go first."""


@dataclass(frozen=True, eq=False)
class NormalStore:
    """Normal footage of a model. Immutable: what is added makes another store.

    Attributes:
        added: found after training, in the order in which it was added.
        kept: maps of unseen footage.
        clips: digests of the clips that the model has seen, in training or since, so that no frame counts twice.
        version: short digest of all of it; empty for none.
    """

    added: tuple[AddedStretch, ...] = ()
    kept: tuple[StoredMaps, ...] = ()
    clips: tuple[str, ...] = ()
    version: str = ""

    @classmethod
    def read(cls, folder: Path, model: str) -> Self:
        """Read what lies beside a model; an empty store where there is nothing.

        Args:
            folder: of the model.
            model: its fingerprint.

        Raises:
            CheckpointError: it cannot be read, is damaged, or belongs to another model; one line.
        """
        path = folder / NORMAL_FILE
        if not path.exists():
            return cls()
        found = read_footage(path, model)
        return cls(found.added, found.kept, found.clips, found.version)

    def stretches(self, scene: str, camera_id: str | None = None) -> list[NormalStretch]:
        """What was added for a scene, or for one of its cameras.

        Args:
            scene: its name.
            camera_id: whose own stretches are wanted, too.
        """
        return [one.stretch for one in self.added if one.is_of(scene, camera_id)]

    def maps(self, scene: str) -> Iterator[MapStretch]:
        """Maps of a scene, one stretch after the other: they may be many.

        Args:
            scene: its name.

        Raises:
            CheckpointError: they are damaged.
        """
        return (one.load() for one in self.kept if one.scene == scene)

    def with_added(
        self, added: Iterable[AddedStretch], *, maps: Iterable[StoredMaps] = (), clips: Iterable[str] = ()
    ) -> Self:
        """With further footage, as far as there is room: the oldest scores go, and maps are kept evenly.

        Args:
            added: its scores.
            maps: its maps.
            clips: digests of the clips that it comes from.
        """
        return replace(
            self,
            added=_newest([*self.added, *added], ADDED_FRAMES),
            kept=spread_evenly([*self.kept, *maps], MAPS_MB * 10**6),
            clips=tuple(dict.fromkeys([*self.clips, *clips])),
            version="",
        )

    def write(self, folder: Path, model: str) -> Self:
        """Write it beside a model; it appears whole, and in the place of an older one.

        Args:
            folder: of the model.
            model: its fingerprint.

        Returns:
            It, with its version.

        Raises:
            CheckpointError: it cannot be written, or maps that were to be kept are damaged.
        """
        version = write_footage(folder / NORMAL_FILE, model, self.added, self.kept, self.clips)
        return replace(self, version=version)


def kept_maps(maps: Iterable[tuple[str, MapStretch]]) -> list[StoredMaps]:
    """Maps as they are kept: none of frames that were learned from, and no stretch that takes most of the room.

    Args:
        maps: by scene.
    """
    most = MAPS_MB * 10**6 // _PIECES
    found = []
    for scene, stretch in maps:
        if stretch.kind == "learned" or not len(stretch.maps):
            continue
        pieces = -(-StoredMaps.of(scene, stretch).bytes // most)
        halves = [np.array_split(stretch.maps, pieces)]
        halves += [] if stretch.unpaired is None else [np.array_split(stretch.unpaired, pieces)]
        for piece in zip(*halves, strict=True):
            found.append(StoredMaps.of(scene, MapStretch(stretch.kind, stretch.fps, *piece)))
    return found


def _newest(added: Sequence[AddedStretch], frames: int) -> tuple[AddedStretch, ...]:
    """The last of some stretches that have no more frames together than are wanted; but the last of all."""
    lengths = np.cumsum([len(one.stretch.scores) for one in reversed(added)])
    count = max(1, int(np.searchsorted(lengths, frames, side="right")))
    return tuple(added[-count:])


def spread_evenly(kept: Iterable[StoredMaps], room: int) -> tuple[StoredMaps, ...]:
    """As many maps as there is room for, whole stretches: what is unseen first, evenly over scenes and footage.

    Args:
        kept: all that there are.
        room: in bytes.
    """
    every = list(kept)
    chosen: set[int] = set()
    for kind in ("own", "light", "learned"):
        by_scene: dict[str, list[int]] = {}
        for number, one in enumerate(every):
            if one.kind == kind:
                by_scene.setdefault(one.scene, []).append(number)
        turns = [list(_halving(numbers)) for numbers in by_scene.values()]
        for turn in range(max(map(len, turns), default=0)):
            for numbers in turns:
                if turn < len(numbers) and every[numbers[turn]].bytes <= room:
                    chosen.add(numbers[turn])
                    room -= every[numbers[turn]].bytes
    return tuple(one for number, one in enumerate(every) if number in chosen)


def _halving(numbers: list[int]) -> Iterator[int]:
    """Numbers in an order of which every beginning is spread over all of them: the binary digits turned around."""
    digits = max(len(numbers) - 1, 1).bit_length()
    for turn in range(1 << digits):
        at = int(f"{turn:0{digits}b}"[::-1], 2)
        if at < len(numbers):
            yield numbers[at]
