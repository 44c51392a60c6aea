"""docs/parquet.md says what is written."""

import re
from pathlib import Path

import pyarrow as pa

from pipeline.sinks.parquet_schema import journal_schema, rows_batch, scores_schema
from tests.sinks.made import score

DOCUMENT = (Path(__file__).parents[2] / "docs" / "parquet.md").read_text(encoding="utf-8")


def documented_columns() -> dict[str, str]:
    """Name to type, in the order of the table."""
    table = DOCUMENT[DOCUMENT.index("## Columns") : DOCUMENT.index("## Reading")]
    return dict(re.findall(r"^\| `(\w+)` \| ([^|]+?) \|", table, flags=re.MULTILINE))


def test_the_document_names_exactly_the_columns_of_the_files_in_their_order_with_their_types():
    schema = scores_schema((2, 3), "run")
    types = {field.name: re.sub(r"\bitem\b", "element", str(field.type)).replace("[6]", "") for field in schema}
    assert list(documented_columns().items()) == list(types.items())


def test_the_document_says_which_columns_may_be_null():
    nullable = [field.name for field in scores_schema((2, 3), "run") if field.nullable]
    assert nullable == ["event_id", "event_start_s", "event_stretch"]
    assert "Only `event_id`, `event_start_s` and `event_stretch` may be null." in DOCUMENT


def test_columns_of_maps_come_last_and_only_with_maps():
    without, with_maps = scores_schema(None, "run"), scores_schema((2, 3), "run")
    assert with_maps.names == [*without.names, "map_height", "map_width", "map"]
    assert with_maps.field("map").type == pa.list_(pa.float32(), 6)


def test_every_column_holds_what_the_score_has_under_its_name():
    written = score(3, session=2)
    (row,) = rows_batch([written], None, journal_schema(None, "run", 0)).to_pylist()
    has = {name: getattr(written.header, name, None) for name in row}
    row["withheld"] = tuple(row["withheld"])
    assert row == {name: getattr(written, name, value) for name, value in has.items()}
