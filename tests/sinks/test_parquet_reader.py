from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import ScoresError
from pipeline.sinks.parquet import ParquetSink
from pipeline.sinks.parquet_reader import read_clip_scores
from tests.sinks.made import score


def write(root, *batches, maps=False, model="abc", rotate_s=1e9):
    sink = ParquetSink(root, maps=maps, rotate_s=rotate_s)
    for batch in batches:
        sink.write([replace(one, model=model) for one in batch])
    sink.close()


def complaint(root) -> str:
    with pytest.raises(ScoresError) as caught:
        read_clip_scores(root)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_files_of_a_camera_are_joined_in_the_order_of_frames(tmp_path):
    # One file per write, in folders whose names say nothing of sessions.
    later = [score(i, session=1, captured_at_s=1000.0 + i) for i in range(3)]
    first = [score(i, session=0, captured_at_s=9e8 + i) for i in range(4)]
    write(tmp_path, first, later, rotate_s=0.0, maps=True)
    scores = read_clip_scores(tmp_path)["gate"]
    assert list(zip(scores.session.tolist(), scores.index.tolist(), strict=True)) == [
        *((0, i) for i in range(4)),
        *((1, i) for i in range(3)),
    ]
    assert len(scores.files) == 2


def test_maps_come_in_the_order_of_rows_one_file_at_a_time(tmp_path):
    frames = [score(i, map_shape=(3, 5)) for i in range(9)]
    write(tmp_path, frames[:4], frames[4:], rotate_s=0.0, maps=True)
    maps = list(read_clip_scores(tmp_path)["gate"].iter_maps())
    assert [part.shape for part in maps] == [(4, 3, 5), (5, 3, 5)]
    assert all(part.dtype == np.float16 for part in maps)
    assert np.array_equal(np.concatenate(maps), np.stack([s.anomaly_map for s in frames]))


def test_asking_for_maps_that_were_not_kept_is_said(tmp_path):
    write(tmp_path, [score(0)])
    with pytest.raises(ScoresError, match="camera gate: expected anomaly maps"):
        next(read_clip_scores(tmp_path)["gate"].iter_maps())


def test_the_models_that_made_the_scores_are_named(tmp_path):
    write(tmp_path, [score(0)], model="one")
    write(tmp_path, [score(1)], model="two")
    assert read_clip_scores(tmp_path)["gate"].models == ("one", "two")


def test_two_runs_in_one_folder_are_not_mixed_up_silently(tmp_path):
    for _ in range(2):
        write(tmp_path, [score(i) for i in range(5)])
    assert "expected every frame once" in complaint(tmp_path)


def test_a_folder_that_is_missing_or_empty_is_said(tmp_path):
    assert "expected a folder of scores" in complaint(tmp_path / "none")
    (tmp_path / "other.parquet").write_bytes(b"")
    assert "expected scores (camera=*/date=*/*.parquet), found none" in complaint(tmp_path)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"this is text" * 50, b"PAR1" + bytes(100) + b"PAR1"])
def test_a_file_that_is_no_parquet_is_named(tmp_path, content):
    path = tmp_path / "camera=gate" / "date=2026-11-24" / "part.parquet"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    assert complaint(tmp_path).startswith(f"{path}: ")


def test_another_program_s_parquet_is_named_with_what_is_missing(tmp_path):
    folder = tmp_path / "camera=gate" / "date=2026-11-24"
    folder.mkdir(parents=True)
    pq.write_table(pa.table({"index": [1], "session": [0]}), folder / "part.parquet")
    assert "anomaly_score" in complaint(tmp_path)


def test_a_file_without_rows_is_named(tmp_path):
    write(tmp_path, [score(0)])
    (path,) = tmp_path.rglob("*.parquet")
    pq.write_table(pq.read_table(path, partitioning=None).slice(0, 0), path)
    assert "found no rows" in complaint(tmp_path)


@pytest.mark.parametrize("height", [[4, 4], [3, None], [3, 5]])
def test_maps_that_do_not_have_their_shape_are_refused(tmp_path, height):
    write(tmp_path, [score(i, map_shape=(3, 5)) for i in range(2)], maps=True)
    (path,) = tmp_path.rglob("*.parquet")
    table = pq.read_table(path, partitioning=None)
    at = table.column_names.index("map_height")
    pq.write_table(table.set_column(at, "map_height", pa.array(height, pa.int32())), path)
    with pytest.raises(ScoresError, match="expected one map_height and map_width"):
        next(read_clip_scores(tmp_path)["gate"].iter_maps())


def test_a_file_of_an_earlier_version_is_refused_with_what_to_do(tmp_path):
    write(tmp_path, [score(0)])
    (path,) = tmp_path.rglob("*.parquet")
    earlier = ["smoothed_score", "event_id", "event_start_s", "paired", "common_surprise"]
    pq.write_table(pq.read_table(path, partitioning=None).drop_columns(earlier), path)
    said = complaint(tmp_path)
    assert said.startswith(f"{path}: ")
    assert "common_surprise, event_id, event_start_s, paired, smoothed_score missing" in said
    assert "earlier version of this one? then score the footage anew" in said


def test_a_flipped_byte_in_the_data_is_refused(tmp_path):
    root = tmp_path / "scores"
    written = [score(i, map_shape=(4, 6)) for i in range(30)]
    write(root, written, maps=True)
    (path,) = root.rglob("*.parquet")
    good = path.read_bytes()
    metadata = pq.read_metadata(path)
    chunks = [metadata.row_group(0).column(i) for i in range(metadata.num_columns)]
    end_of_data = max(
        (c.dictionary_page_offset if c.has_dictionary_page else c.data_page_offset) + c.total_compressed_size
        for c in chunks
    )
    refused = wrong_maps = 0
    positions = range(4, end_of_data, 3)
    for position in positions:
        path.write_bytes(good[:position] + bytes([good[position] ^ 0x10]) + good[position + 1 :])
        try:
            scores = read_clip_scores(root)["gate"]
            maps = np.concatenate(list(scores.iter_maps()))
        except ScoresError as error:
            assert str(path) in str(error) or "expected every frame once" in str(error)
            refused += 1
            continue
        assert scores.anomaly_score.tolist() == [s.anomaly_score for s in written]
        wrong_maps += not np.array_equal(maps, np.stack([s.anomaly_map for s in written]))
    assert refused > len(positions) / 2
    # Checksums cover a page's data, not the few bytes of its header that name the encoding: 3 of 18,000 flips got by.
    assert wrong_maps <= 1
