"""A supervisor's process dies, and another one goes on with the run."""

import json
import stat
import time
from dataclasses import replace

import pytest

from actors.supervision_file import SupervisionFile
from pipeline.errors import BadInputError, RunError
from tests.actors.supervised import CAMERAS, DETECTOR, READER, SCORER, SCORING, Run, camera


@pytest.fixture
def path(tmp_path):
    return tmp_path / "supervision.json"


@pytest.fixture
def run(path):
    made = Run("gate", "yard", memory=SupervisionFile(path, "run"))
    made[CAMERAS].readers = dict.fromkeys(("gate", "yard"), READER)
    made[SCORER].cameras = dict.fromkeys(("gate", "yard"), SCORING)
    made.step()
    made.step()
    return made


def restart(run, path):
    """What its supervisor knew is gone, but for the file."""
    run.supervise(SupervisionFile(path, "run"))


def told(run):
    return {name: replace(actor.desired, version=0) for name, actor in run.fleet.made.items()}


def test_another_supervisor_goes_on_where_the_one_before_died_and_disturbs_nobody(run, path):
    run[CAMERAS].readers["yard"] = replace(READER, last_frame_at_s=101.0)
    run.step(7.0)  # the gate is offline
    run.supervisor.apply([camera("gate"), camera("yard"), camera("new")], ["yard"])
    run.step()
    run.step()
    before, notices, status = told(run), dict(run[SCORER].notices), run.supervisor.status()
    newest = max(actor.version for actor in run.fleet.made.values())
    assert [notice.kind for notice in notices.values()] == ["camera_offline"]
    restart(run, path)
    run.step()
    after = run.step()
    assert told(run) == before
    assert min(actor.version for actor in run.fleet.made.values()) > newest
    assert (after.cameras, run[SCORER].notices) == (status.cameras, notices)
    run[CAMERAS].readers["gate"] = replace(READER, last_frame_at_s=run.now)
    run.step()
    run.step()
    assert [notice.kind for notice in run[SCORER].notices.values()] == ["camera_offline", "camera_online"]


def test_a_change_that_was_answered_is_known_to_the_next_supervisor_though_no_actor_was_told(run, path):
    run.supervisor.apply([camera("yard")], ["yard"])
    restart(run, path)
    run.step()
    run.step()
    assert [wanted.id for wanted in run[CAMERAS].desired.cameras] == ["yard"]
    assert run[CAMERAS].desired.paused == {"yard"}
    assert [wanted.id for wanted in run[SCORER].desired.removed_cameras] == ["gate"]


def test_a_notice_that_its_scorer_had_not_taken_in_is_sent_by_the_next_supervisor_once(run, path):
    run[SCORER].refuses["notify"] = OSError("not now")
    run.step(10.0)
    run.step()
    assert run[SCORER].notices == {}
    del run[SCORER].refuses["notify"]
    restart(run, path)
    for _ in range(4):
        run.step()
    assert [(n.kind, n.camera_id) for n in run[SCORER].notices.values()] == [
        ("camera_offline", "gate"),
        ("camera_offline", "yard"),
    ]


def test_a_run_that_was_asked_to_end_is_ending_for_the_next_supervisor_too(run, path):
    run.supervisor.drain()
    memory = SupervisionFile(path, "run")
    assert memory.supervision.is_ending
    run.supervise(memory)
    with pytest.raises(BadInputError, match="expected a run that goes on, got one that is ending"):
        run.supervisor.apply([camera("gate")], [])


def test_detectors_that_live_when_a_supervisor_begins_keep_their_processes_and_no_death_is_counted(run, path):
    memory = SupervisionFile(path, "run")
    for actor in run.fleet.made.values():
        actor.report = None  # as of an actor that was not asked yet
    run.supervise(memory)
    run.supervisor._actors.hear_from_all(10.0)
    run.step()
    assert (run[CAMERAS].desired.consumer, run[CAMERAS].desired.deaths) == (DETECTOR, 0)


def test_where_it_cannot_be_written_the_run_goes_on_and_says_so_until_it_can(run, path):
    folder = path.parent
    folder.rename(folder.with_name("elsewhere"))
    run.supervisor.apply([camera("gate")], [])
    run.step()
    (text,) = run.texts()
    assert text == f"{path}: the supervisor could not be started again as it stands: No such file or directory"
    folder.with_name("elsewhere").rename(folder)
    run.step(11.0)
    run.step()
    assert run.texts() == []


def test_only_its_user_can_read_it_and_a_file_of_another_run_is_written_over(run, path):
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    again, other = SupervisionFile(path, "run"), SupervisionFile(path, "other")
    assert (again.is_new, again.incarnation) == (False, 2)
    assert (other.is_new, other.incarnation, other.supervision) == (True, 1, None)
    other.remove()
    assert not path.exists()


def test_a_duration_counts_from_the_first_process_on(path):
    first = SupervisionFile(path, "run")
    assert 99.0 < first.left_s(100.0) <= 100.0
    path.write_text(json.dumps({**json.loads(path.read_text()), "ends_at_s": time.time() + 0.5}))
    assert SupervisionFile(path, "run").left_s(100.0) < 1.0


def test_a_damaged_file_is_named_and_what_to_do_about_it(path):
    path.write_text("{")
    with pytest.raises(RunError, match=r"supervision.json: expected a supervisor's state, .*; delete it to begin anew"):
        SupervisionFile(path, "run")
