"""Columns of the Parquet files and of the journals before them, as docs/parquet.md documents them."""

# pyarrow has no types of its own.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false, reportUnknownLambdaType=false, reportMissingTypeStubs=false

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.sinks.parquet_journal import RUN_METADATA_KEY, SCORER_METADATA_KEY
from pipeline.types import Score

MAP = "map"
MAP_SHAPE = ("map_height", "map_width")
COLUMNS = (
    pa.field("camera_id", pa.string(), nullable=False),
    pa.field("session", pa.int64(), nullable=False),
    pa.field("index", pa.int64(), nullable=False),
    pa.field("pts", pa.int64(), nullable=False),
    pa.field("media_time_s", pa.float64(), nullable=False),
    pa.field("captured_at_s", pa.float64(), nullable=False),
    pa.field("scored_at_s", pa.float64(), nullable=False),
    pa.field("latency_s", pa.float32(), nullable=False),
    pa.field("anomaly_score", pa.float64(), nullable=False),
    pa.field("smoothed_score", pa.float64(), nullable=False),
    pa.field("p_value", pa.float64(), nullable=False),
    pa.field("threshold", pa.float64(), nullable=False),
    pa.field("close_threshold", pa.float64(), nullable=False),
    pa.field("is_anomalous", pa.bool_(), nullable=False),
    pa.field("paired", pa.bool_(), nullable=False),
    pa.field("common_surprise", pa.float64(), nullable=False),
    pa.field("event_id", pa.string()),
    pa.field("event_start_s", pa.float64()),
    pa.field("event_stretch", pa.int32()),
    pa.field("suppressed", pa.string(), nullable=False),
    pa.field("model", pa.string(), nullable=False),
    pa.field("withheld", pa.list_(pa.string()), nullable=False),
    pa.field("thresholds", pa.string(), nullable=False),
)

_ROW = pa.struct(list(COLUMNS))


def scores_schema(map_shape: tuple[int, ...] | None, run: str) -> pa.Schema:
    """Columns of finished files, as docs/parquet.md documents them.

    Args:
        map_shape: (height, width) of the anomaly maps; None where rows hold none.
        run: name of the run that writes.

    Returns:
        The columns in their order, maps as float32 lists of height x width values; its metadata names the run.
    """
    columns = list(COLUMNS)
    if map_shape is not None:
        # The shape stands in columns: not every reader shows a file's metadata, or knows Arrow's tensor type.
        columns += [
            *(pa.field(name, pa.int32(), nullable=False) for name in MAP_SHAPE),
            _map_field(pa.float32(), math.prod(map_shape)),
        ]
    return pa.schema(columns, metadata={RUN_METADATA_KEY: run})


def journal_schema(map_shape: tuple[int, ...] | None, run: str, scorer: int) -> pa.Schema:
    """As ``scores_schema``, with maps as they come, float16; its metadata names the scorer, too, by number."""
    schema = scores_schema(map_shape, run).with_metadata({RUN_METADATA_KEY: run, SCORER_METADATA_KEY: str(scorer)})
    if map_shape is None:
        return schema
    return schema.set(schema.get_field_index(MAP), _map_field(pa.float16(), math.prod(map_shape)))


def _map_field(values: pa.DataType, size: int) -> pa.Field:
    return pa.field(MAP, pa.list_(values, size), nullable=False)


def for_readers(table: pa.Table) -> pa.Table:
    """A journal's rows with maps as float32: few readers know float16, which took 2 % less in a trial."""
    named = {key: value for key, value in (table.schema.metadata or {}).items() if key != SCORER_METADATA_KEY}
    table = table.replace_schema_metadata(named)
    at = table.schema.get_field_index(MAP)
    if at < 0:
        return table
    field = _map_field(pa.float32(), table.schema.field(MAP).type.list_size)
    return table.set_column(at, field, table[MAP].cast(field.type))


def rows_batch(scores: Sequence[Score], map_shape: tuple[int, ...] | None, schema: pa.Schema) -> pa.RecordBatch:
    """Scores as rows of a journal.

    Args:
        scores: at least one.
        map_shape: (height, width) of their anomaly maps; None leaves maps out.
        schema: the journal's.
    """
    # One array of structs taken apart: a call per column costs more than all the rest of a small batch.
    arrays = pa.array([_row(score) for score in scores], type=_ROW).flatten()
    if map_shape is not None:
        arrays += [pa.array([side] * len(scores), pa.int32()) for side in map_shape]
        maps = np.stack([_flat_map(score) for score in scores])
        arrays.append(pa.FixedSizeListArray.from_arrays(pa.array(maps.ravel()), maps.shape[1]))
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _row(score: Score) -> tuple[object, ...]:
    """A score's values in the order of ``COLUMNS``."""
    header = score.header
    return (
        header.camera_id,
        header.session,
        header.index,
        header.pts,
        header.media_time_s,
        header.captured_at_s,
        score.scored_at_s,
        score.latency_s,
        score.anomaly_score,
        score.smoothed_score,
        score.p_value,
        score.threshold,
        score.close_threshold,
        score.is_anomalous,
        score.paired,
        score.common_surprise,
        score.event_id,
        score.event_start_s,
        score.event_stretch,
        score.suppressed,
        score.model,
        score.withheld,
        score.thresholds,
    )


def _flat_map(score: Score) -> npt.NDArray[np.float16]:
    assert score.anomaly_map is not None  # one model, one answer: all maps or none
    return np.ascontiguousarray(score.anomaly_map, dtype=np.float16).ravel()
