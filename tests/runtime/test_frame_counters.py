import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.errors import RunError
from pipeline.runtime.frame_counters import FrameCounters

ROOT = Path(__file__).parents[2]


def test_what_a_killed_process_counted_is_there_and_what_it_held_is_known_to_be_lost(tmp_path):
    path = tmp_path / "gate"
    counting = (
        "import os, sys, signal; from pathlib import Path; from pipeline.runtime.frame_counters import FrameCounters\n"
        "counters = FrameCounters(Path(sys.argv[1]))\n"
        "counters.add('decoded', 10); counters.add('sampling', 4); counters.add('dispatched', 3)\n"
        "counters['session'] = 7\n"
        "print(counters.counter_id, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run(
        [sys.executable, "-c", counting, str(path)], check=False, cwd=ROOT, capture_output=True, text=True
    )
    counters = FrameCounters(path)
    assert counters.resumed
    assert counters.counter_id == done.stdout.strip()
    assert (counters["decoded"], counters["dispatched"], counters["session"]) == (10, 3, 7)
    counters.count_lost()
    assert counters.dropped() == {"sampling": 4, "camera_lost": 3}
    counters.count_lost()
    assert counters.dropped() == {"sampling": 4, "camera_lost": 3}


def test_a_file_is_counted_again_from_its_start_but_not_what_was_confirmed(tmp_path):
    counters = FrameCounters(tmp_path / "clip")
    assert not counters.resumed
    counters.add("decoded", 5)
    counters.add("dispatched", 5)
    counters["confirmed"] = 2
    counters.restart_file()
    assert (counters["decoded"], counters["dispatched"], counters["confirmed"]) == (0, 0, 2)


def test_a_counter_file_has_one_owner_and_another_id_where_it_is_made_anew(tmp_path):
    counters = FrameCounters(tmp_path / "gate")
    with pytest.raises(RunError, match="gate: expected a counter file of its own"):
        FrameCounters(tmp_path / "gate")
    counters.close()
    again = FrameCounters(tmp_path / "gate")
    assert again.counter_id == counters.counter_id
    again.remove()
    assert FrameCounters(tmp_path / "gate").counter_id != counters.counter_id


def test_a_counter_file_is_made_in_no_other_users_folder_and_follows_no_link(tmp_path):
    mine = tmp_path / "mine.txt"
    mine.write_text("precious")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "gate").symlink_to(mine)
    with pytest.raises(RunError, match="expected a counter file of its own"):
        FrameCounters(tmp_path / "run" / "gate")
    assert mine.read_text() == "precious"
    if os.geteuid() == 0:
        os.chown(tmp_path / "run", 12345, 12345)
        with pytest.raises(RunError, match="belongs to another user"):
            FrameCounters(tmp_path / "run" / "yard")
        assert not (tmp_path / "run" / "yard").exists()


def test_the_last_counter_file_of_a_run_takes_its_folder_with_it(tmp_path):
    gate, yard = (FrameCounters(tmp_path / "runs" / "run" / name) for name in ("gate", "yard"))
    gate.remove()
    assert yard.path.exists()
    yard.remove()
    assert list((tmp_path / "runs").iterdir()) == []
