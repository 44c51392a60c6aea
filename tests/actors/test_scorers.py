"""What the supervisor has several scorers do, each with cameras of its own, as one."""

import time

import pytest

from pipeline.runtime.shutdown import ShutdownDeadline
from pipeline.types import Trouble
from tests.actors.supervised import CAMERAS, ENDED, READER, SCORING, Run, camera

S0, S1, S2 = (f"run-scorer-{number}" for number in range(3))


@pytest.fixture
def three():
    """Three scorers, of whom each has one camera: a, g and b."""
    made = Run("a", "g", "b", scorers=3)
    made.step()
    made.step()
    return made


def test_of_several_scorers_each_is_told_of_its_own_cameras_alone_and_one_that_is_away_holds_up_no_other(three):
    assert [[c.id for c in three[name].desired.cameras] for name in (S0, S1, S2)] == [["a"], ["g"], ["b"]]
    three[CAMERAS].readers = dict.fromkeys("agb", READER)
    three.step()
    three[S1].die()
    three.step(10.0)  # no frame for so long
    three.step()
    assert [[n.camera_id for n in three[name].notices.values()] for name in (S0, S1, S2)] == [["a"], [], ["b"]]
    three[S1].come_back()
    three.step()
    three.step()
    assert [notice.camera_id for notice in three[S1].notices.values()] == ["g"]
    three.supervisor.apply([camera("a"), camera("b")], [])
    three.step()
    assert [wanted.id for wanted in three[S1].desired.removed_cameras] == ["g"]
    assert [[c.id for c in three[name].desired.cameras] for name in (S0, S1, S2)] == [["a"], [], ["b"]]


def test_events_are_closed_by_the_scorers_whose_cameras_ended_and_all_must_have_done_so(three):
    three[CAMERAS].readers = dict.fromkeys("agb", ENDED)
    for name, own in ((S0, "a"), (S1, "g"), (S2, "b")):
        three[name].cameras = {own: SCORING}
    three[S1].is_slow = True
    three.step()
    assert not three.step().done
    assert [three[name].finished for name in (S0, S2)] == [["a"], ["b"]]
    three[S1].catch_up()
    three.step()
    assert three.step().done
    assert three[S1].finished == ["g"]


def test_what_several_scorers_say_in_the_same_words_is_said_once_and_number_0_hears_of_rows_that_are_lost(three):
    disk, mine = Trouble("parquet", "Parquet: no room"), Trouble("store", "run-2.sqlite: no room")
    three[S1].troubles, three[S2].troubles, three[S2].storage = [disk], [disk, mine], disk.text
    three.step()
    assert three.texts() == [disk.text, mine.text]
    three.step(1.0)
    assert three[S0].called("maintain")[-1] == [disk.text]
    assert three[S2].called("maintain")[-1] == []
    three[S2].storage = ""
    three.step()
    three.step(1.0)
    assert three[S0].called("maintain")[-1] == [""]


def test_that_the_run_is_over_is_said_by_number_0_after_all_others_and_their_alerts_are_counted_together(three):
    order = []
    for name in (S0, S1, S2):
        three[name].close = lambda within_s, failure="", n=name: order.append(n) or ([f"a row of {n}"], {"emitted": 2})
    three[S1].refuses["close"] = OSError("disk full")
    final = three.supervisor.close(ShutdownDeadline.starting_at(time.monotonic()))
    assert order == [S2, S0]
    assert final.alerts == {"emitted": 4}
    assert set(final.unwritten) == {
        f"{S0}: a row of {S0}", f"{S1} could not close its files: disk full", f"{S2}: a row of {S2}"
    }  # fmt: skip
