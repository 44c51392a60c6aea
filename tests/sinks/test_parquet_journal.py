"""What a killed process leaves: every row that was written is there once, and none that will be written again."""

import fcntl
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.sinks.parquet import discard_journals, staging_folder
from pipeline.sinks.parquet_reader import read_clip_scores
from tests.sinks.data_set import Clock, indices, journals, make, parquet_files
from tests.sinks.made import score

ROOT = Path(__file__).parents[2]


def test_a_killed_process_loses_no_row_that_write_returned_for(tmp_path):
    root = tmp_path / "scores"
    code = (
        "import os, sys; from pathlib import Path; from pipeline.sinks.parquet import ParquetSink\n"
        "from tests.sinks.made import score\n"
        "sink = ParquetSink(Path(sys.argv[1]), maps=True, rotate_s=1e9)\n"
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
    sink = make(root)
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


def left_by(run, root, scorer=0) -> None:
    """A journal of three adds of two cameras, by a process of a run that was killed."""
    sink = make(root.with_name("elsewhere"), run=run, scorer=scorer)
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


def test_a_journal_of_another_scorer_of_the_run_is_left_to_it_alone(tmp_path):
    """Which of its rows will be written again only that scorer knows."""
    root = tmp_path / "scores"
    left_by("mine", root, scorer=2)
    make(root, run="mine", scorer=1, confirmed={}).close()
    assert parquet_files(root) == []
    make(root, run="mine", scorer=2, confirmed={"gate": (0, 9), "yard": (0, 9)}).close()
    assert indices(root) == indices(root, "yard") == list(range(10))


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
