"""The file in which normal footage lies beside a model: tensors, and what they are, each with its digest."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from pipeline.errors import CheckpointError
from pipeline.files import replace_whole
from pipeline.normal_footage import AddedStretch, MapStretch, NormalStretch, StretchKind

NORMAL_FILE = "calibration.safetensors"
"""Beside ``model.json``."""

_KEY = "calibration"  # of the metadata
_VERSION_DIGITS = 12


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class _Stretch(_Strict):
    scene: str
    camera_id: str | None
    kind: StretchKind
    fps: PositiveFloat
    source: str
    since_s: float | None
    until_s: float | None
    zones: str
    scores: str
    unpaired: str | None


class _Maps(_Strict):
    scene: str
    kind: StretchKind
    fps: PositiveFloat
    frames: PositiveInt
    bytes: PositiveInt
    maps: str
    unpaired: str | None


class _Contents(_Strict):
    """What the metadata says; of every tensor its SHA-256 (hex), by which it is also named."""

    format: Literal[1] = 1
    model: str = Field(pattern="^[0-9a-f]{64}$")
    clips: tuple[str, ...]
    added: tuple[_Stretch, ...]
    maps: tuple[_Maps, ...]


@dataclass(frozen=True, slots=True, eq=False)
class StoredMaps:
    """Maps that are kept, and read when they are asked for.

    Attributes:
        scene: of the frames.
        kind: what they are good for.
        fps: frames per second.
        frames: how many.
        bytes: room that they take.
        load: reads them; CheckpointError where they are damaged.
    """

    scene: str
    kind: StretchKind
    fps: float
    frames: int
    bytes: int
    load: Callable[[], MapStretch]

    @classmethod
    def of(cls, scene: str, stretch: MapStretch) -> Self:
        """Maps that are at hand."""
        size = stretch.maps.nbytes + (0 if stretch.unpaired is None else stretch.unpaired.nbytes)
        return cls(scene, stretch.kind, stretch.fps, len(stretch.maps), size, lambda: stretch)


@dataclass(frozen=True, slots=True, eq=False)
class StoredFootage:
    """What a file holds; attributes as those of ``NormalStore``."""

    added: tuple[AddedStretch, ...]
    kept: tuple[StoredMaps, ...]
    clips: tuple[str, ...]
    version: str = ""


def read_footage(path: Path, model: str) -> StoredFootage:
    """Read a file; maps are read when they are asked for.

    Args:
        path: of the file.
        model: fingerprint of the model that it must belong to.

    Raises:
        CheckpointError: it cannot be read, is damaged, or belongs to another model; one line.
    """
    try:
        file = _File(path)
        contents, version = _contents(file.metadata.get(_KEY, ""), path)
        if contents.model != model:
            raise CheckpointError(
                f"{path}: expected normal footage of the model {model[:12]}, got that of {contents.model[:12]}"
            )
        added = tuple(_added(one, file) for one in contents.added)
    except (OSError, SafetensorError) as error:
        raise _damaged(path, " ".join(str(error).split())[:200]) from None
    return StoredFootage(added, tuple(_stored(one, file) for one in contents.maps), contents.clips, version)


def write_footage(
    path: Path, model: str, added: Sequence[AddedStretch], kept: Sequence[StoredMaps], clips: Sequence[str]
) -> str:
    """Write a file; it appears whole, and in the place of an older one.

    Args:
        path: of the file.
        model: fingerprint of the model that it belongs to.
        added: as of ``NormalStore``, as the next two.
        kept: maps.
        clips: digests of clips.

    Returns:
        Its version: a short digest of all of it.

    Raises:
        CheckpointError: it cannot be written, or maps that were to be kept are damaged.
    """
    tensors: dict[str, npt.NDArray[Any]] = {}

    def named(values: npt.NDArray[Any]) -> str:
        values = np.ascontiguousarray(values)
        name = _digest(values)
        tensors[name] = values
        return name

    contents = _Contents(
        model=model,
        clips=tuple(clips),
        added=tuple(_described(one, named) for one in added),
        maps=tuple(_described_maps(one, named) for one in kept),
    )
    text = contents.model_dump_json()
    try:
        with replace_whole(path) as staged:
            save_file(tensors or {"empty": np.zeros(1, np.uint8)}, staged, {_KEY: f"{_sha256(text)} {text}"})
            staged.chmod(0o644)  # as the model's other files are
    except (OSError, SafetensorError) as error:
        said = getattr(error, "strerror", None) or " ".join(str(error).split())[:200]
        raise CheckpointError(f"{path}: cannot be written: {said}") from error
    return _sha256(text)[:_VERSION_DIGITS]


class _File:
    """Tensors of a file, each compared with its digest when it is read; the file may be replaced meanwhile."""

    def __init__(self, path: Path) -> None:
        self.path, self._tensors = path, safe_open(path, framework="np")
        self.metadata: Mapping[str, str] = self._tensors.metadata() or {}

    def tensor(self, name: str, dtype: type, dims: int) -> npt.NDArray[Any]:
        try:
            values: npt.NDArray[Any] = self._tensors.get_tensor(name)
        except (OSError, SafetensorError) as error:
            raise _damaged(self.path, " ".join(str(error).split())[:200]) from None
        if _digest(values) != name or values.dtype != dtype or values.ndim != dims:
            raise _damaged(self.path, "other values than were written")
        return values


def _damaged(path: Path, got: str) -> CheckpointError:
    return CheckpointError(
        f"{path}: expected normal footage written by 'train' or 'calibrate', got: {got}: the file is damaged; without "
        "it the model is whole, with the normal scores of its training alone"
    )


def _contents(sealed: str, path: Path) -> tuple[_Contents, str]:
    """What the metadata says, and its version."""
    checksum, _, text = sealed.partition(" ")
    if checksum != _sha256(text):
        raise _damaged(path, "metadata that is not what was written")
    try:
        return _Contents.model_validate_json(text), _sha256(text)[:_VERSION_DIGITS]
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise _damaged(path, f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _digest(values: npt.NDArray[Any]) -> str:
    digest = hashlib.sha256(f"{values.dtype.str} {values.shape} ".encode())
    digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()


def _described(one: AddedStretch, kept: Callable[[npt.NDArray[Any]], str]) -> _Stretch:
    unpaired = one.stretch.unpaired
    return _Stretch(
        scene=one.scene,
        camera_id=one.camera_id,
        kind=one.stretch.kind,
        fps=one.stretch.fps,
        source=one.source,
        since_s=one.since_s,
        until_s=one.until_s,
        zones=one.zones,
        scores=kept(one.stretch.scores.astype(np.float32)),  # as detectors give them
        unpaired=None if unpaired is None else kept(unpaired.astype(np.float32)),
    )


def _added(one: _Stretch, file: _File) -> AddedStretch:
    scores = file.tensor(one.scores, np.float32, 1).astype(np.float64)
    unpaired = None if one.unpaired is None else file.tensor(one.unpaired, np.float32, 1).astype(np.float64)
    if not np.isfinite(scores).all() or not (unpaired is None or np.isfinite(unpaired).all()):
        raise _damaged(file.path, f"{one.scene}: a score that is not finite")
    if unpaired is not None and len(unpaired) != len(scores):
        raise _damaged(file.path, f"{one.scene}: expected {len(scores)} scores without pairs, got {len(unpaired)}")
    stretch = NormalStretch(one.kind, one.fps, scores, unpaired)
    return AddedStretch(stretch, one.scene, one.camera_id, one.source, one.since_s, one.until_s, one.zones)


def _described_maps(one: StoredMaps, kept: Callable[[npt.NDArray[Any]], str]) -> _Maps:
    stretch = one.load()
    return _Maps(
        scene=one.scene,
        kind=one.kind,
        fps=one.fps,
        frames=one.frames,
        bytes=one.bytes,
        maps=kept(stretch.maps),
        unpaired=None if stretch.unpaired is None else kept(stretch.unpaired),
    )


def _stored(one: _Maps, file: _File) -> StoredMaps:
    def load() -> MapStretch:
        maps = file.tensor(one.maps, np.float16, 3)
        unpaired = None if one.unpaired is None else file.tensor(one.unpaired, np.float16, 3)
        if len(maps) != one.frames or not (unpaired is None or unpaired.shape == maps.shape):
            raise _damaged(file.path, f"{one.scene}: maps of another shape than is said")
        return MapStretch(one.kind, one.fps, maps, unpaired)

    return StoredMaps(one.scene, one.kind, one.fps, one.frames, one.bytes, load)
