import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.errors import RunError
from pipeline.runtime.ledger import CameraLedger

ROOT = Path(__file__).parents[2]


def test_what_a_killed_process_counted_is_there_and_what_it_held_is_known_to_be_lost(tmp_path):
    path = tmp_path / "gate"
    counting = (
        "import os, sys, signal; from pathlib import Path; from pipeline.runtime.ledger import CameraLedger\n"
        "ledger = CameraLedger(Path(sys.argv[1]))\n"
        "ledger.add('decoded', 10); ledger.add('sampling', 4); ledger.add('handed', 3); ledger['session'] = 7\n"
        "print(ledger.book, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run(
        [sys.executable, "-c", counting, str(path)], check=False, cwd=ROOT, capture_output=True, text=True
    )
    ledger = CameraLedger(path)
    assert ledger.resumed
    assert ledger.book == done.stdout.strip()
    assert (ledger["decoded"], ledger["handed"], ledger["session"]) == (10, 3, 7)
    ledger.settle_lost()
    assert ledger.dropped() == {"sampling": 4, "camera_lost": 3}
    ledger.settle_lost()
    assert ledger.dropped() == {"sampling": 4, "camera_lost": 3}


def test_a_file_is_counted_again_from_its_start_but_not_what_was_confirmed(tmp_path):
    ledger = CameraLedger(tmp_path / "clip")
    assert not ledger.resumed
    ledger.add("decoded", 5)
    ledger.add("handed", 5)
    ledger["confirmed"] = 2
    ledger.rewind()
    assert (ledger["decoded"], ledger["handed"], ledger["confirmed"]) == (0, 0, 2)


def test_a_ledger_has_one_owner_and_another_book_where_it_is_made_anew(tmp_path):
    ledger = CameraLedger(tmp_path / "gate")
    with pytest.raises(RunError, match="gate: expected a ledger of its own"):
        CameraLedger(tmp_path / "gate")
    ledger.close()
    again = CameraLedger(tmp_path / "gate")
    assert again.book == ledger.book
    again.remove()
    assert CameraLedger(tmp_path / "gate").book != ledger.book


def test_a_ledger_is_made_in_no_other_users_folder_and_follows_no_link(tmp_path):
    mine = tmp_path / "mine.txt"
    mine.write_text("precious")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "gate").symlink_to(mine)
    with pytest.raises(RunError, match="expected a ledger of its own"):
        CameraLedger(tmp_path / "run" / "gate")
    assert mine.read_text() == "precious"
    if os.geteuid() == 0:
        os.chown(tmp_path / "run", 12345, 12345)
        with pytest.raises(RunError, match="belongs to another user"):
            CameraLedger(tmp_path / "run" / "yard")
        assert not (tmp_path / "run" / "yard").exists()


def test_the_last_ledger_of_a_run_takes_its_folder_with_it(tmp_path):
    gate, yard = (CameraLedger(tmp_path / "runs" / "run" / name) for name in ("gate", "yard"))
    gate.remove()
    assert yard.path.exists()
    yard.remove()
    assert list((tmp_path / "runs").iterdir()) == []
