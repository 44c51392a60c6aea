import fcntl
import os
import shutil
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.sinks.parquet import ParquetSink, discard_journals, staging_folder
from pipeline.sinks.parquet_reader import read_clip_scores
from tests.sinks.made import score

ROOT = Path(__file__).parents[2]
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC).timestamp()
MIDNIGHT = datetime(2026, 11, 25, tzinfo=UTC).timestamp()


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def make(root, *, maps=False, rotate_s=60.0, now=None, model="abc", **of_run) -> ParquetSink:
    return ParquetSink(root, model_fingerprint=model, maps=maps, rotate_s=rotate_s, now=now or Clock(), **of_run)


def parquet_files(root) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*.parquet"))


def indices(root, camera_id="gate") -> list[int]:
    return read_clip_scores(root)[camera_id].index.tolist()


def journals(root) -> list[Path]:
    return sorted(staging_folder(root).glob("*"))


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
    for name in ("anomaly_score", "smoothed_score", "p_value", "threshold", "is_anomalous", "event_id"):
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


def test_a_killed_process_loses_no_row_that_write_returned_for(tmp_path):
    root = tmp_path / "scores"
    code = (
        "import os, sys; from pathlib import Path; from pipeline.sinks.parquet import ParquetSink\n"
        "from tests.sinks.made import score\n"
        "sink = ParquetSink(Path(sys.argv[1]), model_fingerprint='abc', maps=True, rotate_s=1e9)\n"
        "for i in range(25): sink.write([score(i, map_shape=(4, 6))])\n"
        "print('written', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(root)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "written\n"
    # While it lives its journal is its own.
    make(root).close()
    assert parquet_files(root) == []
    process.send_signal(signal.SIGKILL)
    process.wait()
    sink = make(root, model="later")
    read = read_clip_scores(root)["gate"]
    assert read.index.tolist() == list(range(25))
    assert read.models == ("abc",)
    assert np.array_equal(np.concatenate(list(read.iter_maps()))[3], score(3, map_shape=(4, 6)).anomaly_map)
    sink.close()
    make(root).close()
    assert indices(root) == list(range(25))


@pytest.fixture(scope="module")
def dead_journal(tmp_path_factory) -> tuple[bytes, list[int]]:
    """A journal's bytes and where in it each of its batches (of three rows) ends."""
    root = tmp_path_factory.mktemp("dead") / "scores"
    sink = make(root, maps=True)
    ends = []
    for i in range(6):
        sink.write([score(3 * i + k, map_shape=(4, 6)) for k in range(3)])
        ends.append(journals(root)[0].stat().st_size)
    data = journals(root)[0].read_bytes()
    sink.close()
    return data, ends


@given(st.data())
@settings(max_examples=60)
def test_of_a_journal_cut_anywhere_every_whole_batch_is_recovered(tmp_path_factory, dead_journal, data):
    journal, ends = dead_journal
    cut = data.draw(st.integers(0, len(journal)))
    root = tmp_path_factory.mktemp("cut") / "scores"
    staging_folder(root).mkdir(parents=True)
    (staging_folder(root) / "1700000000000-abc.arrows").write_bytes(journal[:cut])
    make(root).close()
    whole = sum(end <= cut for end in ends)
    assert (indices(root) if parquet_files(root) else []) == list(range(3 * whole))
    assert not staging_folder(root).exists()


@pytest.mark.parametrize("clean_up", [lambda root: make(root).close(), discard_journals], ids=["next sink", "anew"])
def test_a_process_killed_before_its_journal_had_a_name_leaves_nothing_for_good(tmp_path, clean_up):
    root = tmp_path / "scores"
    staging_folder(root).mkdir(parents=True)
    left = staging_folder(root) / "1700000000000-abc.new"
    left.touch()
    clean_up(root)
    assert not left.exists()


def test_a_journal_in_the_making_is_not_taken_for_abandoned(tmp_path, monkeypatch):
    root = tmp_path / "scores"
    sink = make(root)
    lock, swept = fcntl.flock, []

    def sweep_first(file, how):
        monkeypatch.setattr(fcntl, "flock", lock)
        discard_journals(root)  # another process, between the file's creation and its lock
        swept.append(journals(root))
        lock(file, how)

    monkeypatch.setattr(fcntl, "flock", sweep_first)
    sink.write([score(0)])
    assert swept == [[]]
    discard_journals(root)
    sink.close()
    assert sink.unwritten() == []
    assert indices(root) == [0]


def left_by(run, root) -> None:
    """A journal of three adds of two cameras, by a process of a run that was killed."""
    sink = make(root.with_name("elsewhere"), run=run)
    for start in (0, 5, 10):
        sink.write([score(start + i, camera_id=camera_id) for i in range(5) for camera_id in ("gate", "yard")])
    (journal,) = journals(root.with_name("elsewhere"))
    staging_folder(root).mkdir(parents=True, exist_ok=True)
    shutil.copyfile(journal, staging_folder(root) / journal.name)
    sink.close()


@pytest.mark.parametrize("adds", [0, 1, 2, 3])
def test_rows_whose_states_were_not_committed_are_left_out_since_they_come_again(tmp_path, adds):
    root = tmp_path / "scores"
    left_by("mine", root)
    confirmed = dict.fromkeys(("gate", "yard"), (0, 5 * adds - 1) if adds else None)
    sink = make(root, run="mine", confirmed=confirmed)
    if adds:
        assert indices(root) == indices(root, "yard") == list(range(5 * adds))
    sink.write([score(i, camera_id=camera_id) for i in range(5 * adds, 20) for camera_id in ("gate", "yard")])
    sink.close()
    assert indices(root) == indices(root, "yard") == list(range(20))


def test_journals_of_other_runs_and_of_none_in_particular_are_replayed_whole(tmp_path):
    root = tmp_path / "scores"
    left_by("theirs", root)
    make(root, run="mine", confirmed={}).close()
    assert indices(root) == list(range(15))
    other = tmp_path / "others"
    left_by("mine", other)
    make(other, run="mine").close()  # nobody remembers anything: a replay has no states
    assert indices(other) == list(range(15))


def test_what_was_left_out_stays_out_when_its_journal_could_not_become_files_at_once(tmp_path):
    root = tmp_path / "scores"
    left_by("mine", root)
    (root / "camera=gate").mkdir(parents=True)
    (root / "camera=gate" / "date=2023-11-14").write_text("in the way")
    sink = make(root, run="mine", confirmed={"gate": (0, 4), "yard": (0, 4)})
    assert "date=2023-11-14" in str(sink.trouble)
    sink.write([score(i, camera_id=camera_id) for i in range(5, 20) for camera_id in ("gate", "yard")])
    sink.close()
    (root / "camera=gate" / "date=2023-11-14").unlink()
    # The process after it has those frames confirmed by now.
    make(root, run="mine", confirmed={"gate": (0, 19), "yard": (0, 19)}).close()
    assert indices(root) == indices(root, "yard") == list(range(20))


def test_a_rotation_never_makes_files_of_the_rows_of_its_own_write(tmp_path):
    root, clock = tmp_path / "scores", Clock()
    sink = make(root, rotate_s=60.0, now=clock)
    sink.write([score(0)])
    clock.now = 100.0
    sink.write([score(1)])
    assert indices(root) == [0]
    sink.close()
    assert indices(root) == [0, 1]


def test_files_of_several_runs_are_read_together(tmp_path):
    root = tmp_path / "scores"
    for run in range(2):
        sink = make(root, run=f"run-{run}", maps=True)
        sink.write([score(i, session=run, map_shape=(2, 2)) for i in range(3)])
        sink.close()
    assert indices(root) == [0, 1, 2, 0, 1, 2]
    assert pyarrow.dataset.dataset(root, partitioning="hive").to_table().num_rows == 6


def test_a_replay_cut_short_after_its_files_stood_doubles_no_row(tmp_path, dead_journal):
    root = tmp_path / "scores"
    for _ in range(3):  # as if it died each time before the journal was deleted
        staging_folder(root).mkdir(parents=True, exist_ok=True)
        (staging_folder(root) / "1700000000000-abc.arrows").write_bytes(dead_journal[0])
        make(root).close()
    assert indices(root) == list(range(18))
    assert len(parquet_files(root)) == 1


def test_two_sinks_of_one_data_set_do_not_touch_each_other_s_rows(tmp_path):
    root = tmp_path / "scores"
    one, other = make(root), make(root)
    one.write([score(0, camera_id="gate")])
    other.write([score(0, camera_id="yard")])
    one.close()
    assert parquet_files(root)[0].startswith("camera=gate/")
    assert staging_folder(root).exists()
    other.close()
    assert sorted(read_clip_scores(root)) == ["gate", "yard"]
    assert not staging_folder(root).exists()


def test_journals_of_a_data_set_that_is_written_anew_are_discarded_unless_they_live(tmp_path, dead_journal):
    root = tmp_path / "scores"
    living = make(root)
    living.write([score(0)])
    (staging_folder(root) / "1700000000000-abc.arrows").write_bytes(dead_journal[0])
    (staging_folder(root) / "1700000000000-abc.parquet").write_bytes(b"half a file")
    discard_journals(root)
    assert len(journals(root)) == 1
    living.close()
    assert indices(root) == [0]


FULL_DISK = """
import resource, sys
from pathlib import Path
from pipeline.sinks.parquet import ParquetSink
from tests.sinks.made import score

def limit(size): resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

clock = [0.0]
sink = ParquetSink(Path(sys.argv[1]), model_fingerprint="abc", maps=True, rotate_s=10.0, now=lambda: clock[0])
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
