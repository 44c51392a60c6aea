"""Reading back what the Parquet sink wrote."""

# pyarrow has no types of its own.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false, reportUnknownLambdaType=false, reportMissingTypeStubs=false

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import ScoresError
from pipeline.sinks.parquet_schema import COLUMNS, MAP, MAP_SHAPE


@dataclass(frozen=True, slots=True)
class CameraScores:
    """All rows of one camera, ordered by ``(session, index)``; every array has shape (T,).

    Attributes:
        camera_id: the camera.
        session: int64.
        index: int64, frame number in the session.
        pts: int64, in the stream's ticks.
        media_time_s: float64, seconds.
        captured_at_s: float64, Unix time.
        latency_s: float32, seconds.
        anomaly_score: float64.
        smoothed_score: float64.
        p_value: float64.
        threshold: float64.
        close_threshold: float64.
        is_anomalous: bool.
        paired: bool, whether the frame had a pair.
        common_surprise: float64.
        event_id: str, of the event that the frame is part of, or None.
        event_start_s: float64, media time of that event's first frame, or NaN.
        event_stretch: float64, which stretch of that event it is of, from 1, or NaN.
        suppressed: str, why the frame, though anomalous, could open no event; empty where it could, or is not.
        models: fingerprints of the models that made the scores.
        threshold_versions: versions of the thresholds that the scores were held against.
        files: Parquet files, ordered by their first row.
        has_maps: whether every row has an anomaly map.
    """

    camera_id: str
    session: npt.NDArray[np.int64]
    index: npt.NDArray[np.int64]
    pts: npt.NDArray[np.int64]
    media_time_s: npt.NDArray[np.float64]
    captured_at_s: npt.NDArray[np.float64]
    latency_s: npt.NDArray[np.float32]
    anomaly_score: npt.NDArray[np.float64]
    smoothed_score: npt.NDArray[np.float64]
    p_value: npt.NDArray[np.float64]
    threshold: npt.NDArray[np.float64]
    close_threshold: npt.NDArray[np.float64]
    is_anomalous: npt.NDArray[np.bool_]
    paired: npt.NDArray[np.bool_]
    common_surprise: npt.NDArray[np.float64]
    event_id: npt.NDArray[np.object_]
    event_start_s: npt.NDArray[np.float64]
    event_stretch: npt.NDArray[np.float64]
    suppressed: npt.NDArray[np.object_]
    models: tuple[str, ...]
    threshold_versions: tuple[str, ...]
    files: tuple[Path, ...]
    has_maps: bool

    def iter_maps(self) -> Iterator[npt.NDArray[np.float16]]:
        """Anomaly maps in row order, one array of shape (n, h, w) per file, in the half precision they were made in.

        A file's maps take less than 64 MB of it.

        Raises:
            ScoresError: there are none, or a file is damaged.
        """
        if not self.has_maps:
            raise ScoresError(f"camera {self.camera_id}: expected anomaly maps in the scores, found none")
        for path in self.files:
            table = _read(path, [*MAP_SHAPE, MAP])
            height, width = _map_shape(path, table)
            flat = pa.concat_arrays(table[MAP].chunks).flatten()
            yield flat.to_numpy(zero_copy_only=False).astype(np.float16).reshape(-1, height, width)


_SHOWN = 300
_KNOWN = {field.name for field in fields(CameraScores)} - {"camera_id"}
_PER_ROW = [column.name for column in COLUMNS if column.name in _KNOWN]


def read_clip_scores(root: Path) -> dict[str, CameraScores]:
    """Scores of every camera (in a replay: every clip) below a folder, by id. Files being written are not seen.

    Raises:
        ScoresError: the folder is missing, holds no scores, or holds a file that is damaged or is no scores file.
    """
    if not root.is_dir():
        raise ScoresError(f"{root}: expected a folder of scores, found none")
    files: dict[str, list[Path]] = {}
    for path in sorted(root.glob("camera=*/date=*/*.parquet")):
        files.setdefault(path.parts[-3].removeprefix("camera="), []).append(path)
    if not files:
        raise ScoresError(f"{root}: expected scores (camera=*/date=*/*.parquet), found none")
    return {camera_id: _read_camera(camera_id, paths) for camera_id, paths in files.items()}


def rows_of_model(rows: CameraScores, fingerprint: str) -> npt.NDArray[np.bool_]:
    """Which rows a model has scored; bool, shape (T,).

    Args:
        rows: all rows of a camera.
        fingerprint: of the model.

    Raises:
        ScoresError: a file is damaged.
    """
    if set(rows.models) == {fingerprint}:
        return np.ones(len(rows.index), bool)
    tables = [_read(path, ["model"]) for path in rows.files]
    return np.array([model == fingerprint for table in tables for model in table["model"].to_pylist()], bool)


def _read_camera(camera_id: str, paths: list[Path]) -> CameraScores:
    tables = {path: _read(path, [*_PER_ROW, "model", "thresholds"]) for path in paths}
    ordered = sorted(paths, key=lambda path: (tables[path]["session"][0].as_py(), tables[path]["index"][0].as_py()))
    table = pa.concat_tables([tables[path] for path in ordered])
    named = {name: set(table[name].unique().to_pylist()) for name in ("model", "thresholds")}
    for name, found in named.items():
        if not all(isinstance(value, str) for value in found):
            raise ScoresError(f"{paths[0].parents[1]}: {name}: expected text in every row, got {found!r}"[:_SHOWN])
    columns = {name: table[name].to_numpy() for name in _PER_ROW}
    session, index = columns["session"], columns["index"]
    goes_back = (np.diff(session) < 0) | ((np.diff(session) == 0) & (np.diff(index) < 0))
    if goes_back.any():
        raise ScoresError(
            f"{paths[0].parents[1]}: expected every frame once and files that follow each other; "
            "two runs seem to have written into this folder"
        )
    return CameraScores(
        camera_id=camera_id,
        **columns,
        models=tuple(sorted(named["model"])),
        threshold_versions=tuple(sorted(named["thresholds"])),
        files=tuple(ordered),
        has_maps=all(MAP in pq.read_schema(path).names for path in paths),
    )


def _map_shape(path: Path, table: pa.Table) -> tuple[int, int]:
    """Height and width of a file's maps."""
    kind = table.schema.field(MAP).type
    size = kind.list_size if pa.types.is_fixed_size_list(kind) else -1
    shapes = set(zip(*(table[name].to_pylist() for name in MAP_SHAPE), strict=True))
    height, width = shapes.pop()
    if shapes or None in (height, width) or height * width != size or table[MAP].null_count:
        raise ScoresError(f"{path}: expected one map_height and map_width, and a map of that size in every row")
    return height, width


def _read(path: Path, columns: list[str]) -> pa.Table:
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            missing = set(columns) - set(file.schema_arrow.names)
            if missing:
                raise ScoresError(
                    f"{path}: expected the columns of a scores file, {', '.join(sorted(missing))} missing "
                    "(of another program, or an earlier version of this one? then score the footage anew)"
                )
            if file.metadata.num_rows == 0:
                raise ScoresError(f"{path}: expected scores, found no rows")
            table = file.read(columns)
            # Page headers carry no checksum; damage there shows as a column that is too short.
            if any(len(column) != file.metadata.num_rows for column in table.columns):
                raise ScoresError(f"{path}: expected {file.metadata.num_rows} rows in every column, got fewer")
            return table
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:  # the last from damaged column names
        if isinstance(error, ScoresError):
            raise
        raise ScoresError(f"{path}: expected a Parquet file of scores, got {' '.join(str(error).split())}") from error
