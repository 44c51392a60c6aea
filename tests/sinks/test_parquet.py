import os
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest

from pipeline.sinks.parquet import staging_folder
from pipeline.sinks.parquet_reader import read_clip_scores
from tests.sinks.data_set import Clock, indices, journals, make, parquet_files
from tests.sinks.made import score

ROOT = Path(__file__).parents[2]
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC).timestamp()
MIDNIGHT = datetime(2026, 11, 25, tzinfo=UTC).timestamp()


def test_scores_come_back_exactly_as_they_were_written(tmp_path):
    root = tmp_path / "scores"
    sink = make(root, maps=True)
    written = [score(i, map_shape=(4, 6)) for i in range(20)]
    sink.write(written[:7])
    sink.write(written[7:])
    sink.close()
    sink.close()
    assert sink.unwritten() == []
    read = read_clip_scores(root)["gate"]
    assert read.session.tolist() == [0] * 20
    assert read.index.tolist() == list(range(20))
    assert read.pts.tolist() == [s.header.pts for s in written]
    assert read.media_time_s.tolist() == [s.header.media_time_s for s in written]
    assert read.captured_at_s.tolist() == [s.header.captured_at_s for s in written]
    assert read.latency_s == pytest.approx(np.array([s.latency_s for s in written]))
    told = ("anomaly_score", "smoothed_score", "p_value", "threshold", "is_anomalous", "paired", "common_surprise")
    for name in (*told, "close_threshold", "event_id"):
        assert getattr(read, name).tolist() == [getattr(s, name) for s in written]
    assert [None if np.isnan(s) else s for s in read.event_start_s] == [s.event_start_s for s in written]
    assert read.models == ("abc",)
    assert read.has_maps
    assert np.array_equal(np.concatenate(list(read.iter_maps())), np.stack([s.anomaly_map for s in written]))


def test_other_tools_read_the_folders_as_camera_and_day(tmp_path):
    root = tmp_path / "scores"
    sink = make(root)
    for camera_id in ("gate", "yard"):
        sink.write([score(i, camera_id=camera_id, captured_at_s=MIDNIGHT - 0.5 + i / 4) for i in range(4)])
    sink.close()
    folders = {Path(name).parent.as_posix() for name in parquet_files(root)}
    assert folders == {f"camera={c}/date={d}" for c in ("gate", "yard") for d in ("2026-11-24", "2026-11-25")}
    table = pyarrow.dataset.dataset(root, partitioning="hive").to_table()
    assert table.num_rows == 8
    assert {"camera", "date", "camera_id", "index", "model", "scored_at_s"} <= set(table.column_names)
    assert pq.read_table(root, filters=[("camera", "=", "yard"), ("date", "=", "2026-11-25")]).num_rows == 2


def test_files_are_compressed_and_maps_split_into_byte_streams(tmp_path):
    root = tmp_path / "scores"
    sink = make(root, maps=True)
    sink.write([score(i, map_shape=(4, 6)) for i in range(50)])
    sink.close()
    (path,) = root.rglob("*.parquet")
    file = pq.ParquetFile(path)
    columns = {file.metadata.row_group(0).column(i).path_in_schema: i for i in range(file.metadata.num_columns)}
    assert file.metadata.row_group(0).column(columns["map.list.element"]).encodings[-1] == "BYTE_STREAM_SPLIT"
    assert file.metadata.row_group(0).column(columns["anomaly_score"]).compression == "ZSTD"
    # DuckDB reads byte streams of FLOAT, not of FLOAT16.
    assert file.schema_arrow.field("map").type == pa.list_(pa.float32(), 24)


def test_a_row_alone_says_how_its_map_is_shaped(tmp_path):
    root = tmp_path / "scores"
    sink = make(root, maps=True)
    sink.write([score(i, map_shape=(4, 6)) for i in range(3)])
    sink.close()
    for row in pyarrow.dataset.dataset(root, partitioning="hive").to_table().replace_schema_metadata().to_pylist():
        shaped = np.reshape(row["map"], (row["map_height"], row["map_width"]))
        assert np.array_equal(shaped, score(row["index"], map_shape=(4, 6)).anomaly_map)


def test_maps_are_left_out_when_nobody_asked(tmp_path):
    root = tmp_path / "scores"
    sink = make(root, maps=False)
    sink.write([score(0, map_shape=(4, 6))])
    sink.close()
    assert not read_clip_scores(root)["gate"].has_maps


def test_rows_stand_in_a_finished_file_after_the_rotation_time(tmp_path):
    root, clock = tmp_path / "scores", Clock()
    sink = make(root, rotate_s=60.0, now=clock)
    sink.write([score(0)])
    clock.now = 59.0
    sink.write([score(1)])
    assert parquet_files(root) == []
    clock.now = 60.0
    sink.write([])
    assert indices(root) == [0, 1]  # while the run goes on
    sink.write([score(2)])
    assert indices(root) == [0, 1]
    sink.close()
    assert indices(root) == [0, 1, 2]
    assert len(parquet_files(root)) == 2


def test_a_journal_that_grew_large_becomes_files_before_its_time(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.sinks.parquet._ROTATE_BYTES", 20_000)
    root = tmp_path / "scores"
    sink = make(root, maps=True)
    for i in range(40):
        sink.write([score(i, map_shape=(32, 32))])
    assert len(parquet_files(root)) >= 4
    sink.close()
    assert indices(root) == list(range(40))


class TickingClock(Clock):
    """A tenth of a second passes with every look at it."""

    def __call__(self):
        self.now += 0.1
        return self.now


def test_files_of_many_cameras_are_made_a_few_at_a_time_and_rows_are_taken_in_between(tmp_path):
    root, clock = tmp_path / "scores", TickingClock()
    sink = make(root, rotate_s=60.0, now=clock)
    cameras = [f"camera-{i:02}" for i in range(30)]
    sink.write([score(0, camera_id=camera_id) for camera_id in cameras])
    clock.now += 60.0
    most, writes = 0, 0
    while len(parquet_files(root)) < len(cameras):
        before = len(parquet_files(root))
        writes += 1
        sink.write([score(writes, camera_id=camera_id) for camera_id in cameras])
        most = max(most, len(parquet_files(root)) - before)
    assert 0 < most <= 4
    sink.close()
    for camera_id in cameras:
        assert indices(root, camera_id) == list(range(writes + 1))
    assert not staging_folder(root).exists()


def test_what_there_is_no_time_for_at_the_end_is_replayed_by_the_next_run(tmp_path):
    root = tmp_path / "scores"
    sink = make(root, now=TickingClock())
    cameras = [f"camera-{i}" for i in range(8)]
    sink.write([score(0, camera_id=camera_id) for camera_id in cameras])
    sink.close(timeout_s=0.3)
    assert 0 < len(parquet_files(root)) < len(cameras)
    assert "8 rows still wait" in sink.unwritten()[0]
    assert "no time left" in sink.unwritten()[0]
    make(root).close()
    assert [indices(root, camera_id) for camera_id in cameras] == [[0]] * len(cameras)


def test_nothing_unfinished_ever_stands_in_the_data_set(tmp_path):
    root = tmp_path / "scores"
    sink = make(root)
    sink.write([score(i) for i in range(5)])
    assert list(root.rglob("*")) == []
    assert len(journals(root)) == 1
    sink.close()
    assert {path.suffix for path in root.rglob("*") if path.is_file()} == {".parquet"}
    assert not staging_folder(root).exists()


def test_a_change_of_the_map_s_size_starts_a_new_file(tmp_path):
    root = tmp_path / "scores"
    sink = make(root, maps=True)
    sink.write([score(0, map_shape=(4, 6))])
    sink.write([score(1, map_shape=(2, 3))])
    sink.write([score(2, map_shape=(3, 2))])
    sink.close()
    assert [maps.shape for maps in read_clip_scores(root)["gate"].iter_maps()] == [(1, 4, 6), (1, 2, 3), (1, 3, 2)]


def test_files_of_several_runs_are_read_together(tmp_path):
    root = tmp_path / "scores"
    for run in range(2):
        sink = make(root, run=f"run-{run}", maps=True)
        sink.write([score(i, session=run, map_shape=(2, 2)) for i in range(3)])
        sink.close()
    assert indices(root) == [0, 1, 2, 0, 1, 2]
    assert pyarrow.dataset.dataset(root, partitioning="hive").to_table().num_rows == 6


FULL_DISK = """
import resource, sys
from pathlib import Path
from pipeline.sinks.parquet import ParquetSink
from tests.sinks.made import score

def limit(size): resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

clock = [0.0]
sink = ParquetSink(Path(sys.argv[1]), maps=True, rotate_s=10.0, now=lambda: clock[0])
sink.write([score(i, map_shape=(16, 16)) for i in range(10)])
limit(12_000)
for start in range(10, 100, 10):
    sink.write([score(i, map_shape=(16, 16)) for i in range(start, start + 10)])
lost = sink.unwritten()
limit(2_000)
clock[0] = 10.0
sink.write([])                       # no room to turn the journal into a file
waiting = sink.unwritten()
limit(resource.RLIM_INFINITY)
sink.write([score(i, map_shape=(16, 16)) for i in range(100, 110)])
sink.close()
print(lost, waiting, sink.unwritten(), sep="\\n")
"""


def test_a_disk_that_is_full_for_a_while_costs_only_the_rows_that_found_no_room(tmp_path):
    # A limit on the size of files fails in the same calls as a full disk, in the middle of a write.
    root = tmp_path / "scores"
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(root)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    lost, waiting, end = done.stdout.splitlines()
    kept = indices(root)
    assert kept[-10:] == list(range(100, 110))
    assert kept[:-10] == list(range(len(kept) - 10))
    assert 10 <= len(kept) - 10 < 100
    assert f"{110 - len(kept)} rows could not be written" in lost
    assert f"{len(kept) - 10} rows still wait" in waiting
    assert "still wait" not in end
    assert "File too large" in done.stderr


def test_what_could_not_become_files_before_the_end_is_replayed_by_the_next_run(tmp_path):
    root = tmp_path / "scores"
    sink = make(root)
    sink.write([score(i) for i in range(5)])
    root.rmdir()
    root.write_text("in the way")
    sink.close()
    assert "5 rows still wait" in sink.unwritten()[0]
    root.unlink()
    make(root).close()
    assert indices(root) == list(range(5))


def test_the_time_to_write_a_row_is_small(tmp_path):
    # A row a call is the worst case; 2,000 of them took 0.3 s where this was written.
    sink = make(tmp_path / "scores")
    started = os.times()
    for i in range(2000):
        sink.write([score(i)])
    used_s = sum(os.times()[:2]) - sum(started[:2])
    sink.close()
    shutil.rmtree(tmp_path / "scores")
    assert used_s < 5.0


def test_a_file_is_of_one_model_and_the_files_of_two_that_followed_each_other_are_read_as_one(tmp_path):
    root = tmp_path / "scores"
    sink = make(root)
    sink.write([score(i, camera_id=name) for i in range(4) for name in ("gate", "yard")])
    sink.write([replace(score(i), model="next") for i in range(4, 6)])
    sink.write([replace(score(i), model="abc") for i in range(6, 7)])
    sink.close()
    files = parquet_files(root)
    assert len(files) == 4
    assert all(len(set(pq.read_table(root / name)["model"].to_pylist())) == 1 for name in files)
    assert indices(root) == list(range(7))
    assert read_clip_scores(root)["gate"].models == ("abc", "next")
