from hypothesis import given
from hypothesis import strategies as st

from pipeline.runtime.accounting import CameraAccounting, ReaderCounts

COUNTS = st.dictionaries(st.sampled_from(["sampling", "overload", "stale"]), st.integers(0, 99))


def accounting(decoded, dispatched, scored, dropped=None, patience_s=10.0):
    made = CameraAccounting(patience_s)
    made.update_reader("here", ReaderCounts(decoded, dispatched, {}))
    made.update_scorer(scored, dropped or {})
    return made


@given(st.lists(st.tuples(COUNTS, st.integers(0, 50), st.integers(0, 9)), min_size=1, max_size=4), COUNTS)
def test_the_counts_add_up_over_all_nodes_a_camera_was_read_on(counter_files, by_detector):
    """Whatever waited on a node that was given up is lost; only in the last counter file can frames wait."""
    made, dispatched_in_all = CameraAccounting(1.0), 0
    for number, (dropped, dispatched, waiting) in enumerate(counter_files):
        made.update_reader(
            f"node{number}", ReaderCounts(dispatched + waiting + sum(dropped.values()), dispatched, dropped)
        )
        dispatched_in_all += dispatched
    by_detector = {reason: min(n, dispatched_in_all // 3) for reason, n in by_detector.items()}
    made.update_scorer(dispatched_in_all - sum(by_detector.values()), by_detector)
    counts = made.counts()
    assert counts.in_flight == counter_files[-1][2]
    assert counts.dropped.get("camera_lost", 0) == sum(waiting for _, _, waiting in counter_files[:-1])
    assert all(counts.dropped.values())


def test_a_frame_that_was_scored_has_been_decoded_though_its_reader_has_not_said_so_yet():
    counts = accounting(decoded=3, dispatched=3, scored=4, dropped={"stale": 1}).counts()
    assert (counts.decoded, counts.in_flight) == (5, 0)


def test_a_camera_is_settled_when_it_ended_and_nothing_is_in_flight():
    made = accounting(5, 5, 4)
    assert not made.settled(False, 0.0)
    assert not made.settled(True, 1.0)
    made.update_scorer(5, {})
    assert made.settled(True, 2.0)
    assert made.counts().dropped == {}


def test_frames_that_vanished_are_written_off_after_the_counts_stood_still():
    made = accounting(9, 9, 6)
    assert not made.settled(True, 0.0)
    made.update_scorer(7, {})
    assert not made.settled(True, 9.0)  # they moved: patience starts anew
    assert not made.settled(True, 18.9)
    assert made.settled(True, 19.0)
    assert made.counts().dropped == {"detector_lost": 2}
    assert made.counts().in_flight == 0


def test_a_camera_that_still_runs_is_never_written_off():
    made = accounting(9, 9, 7, patience_s=1.0)
    assert not any(made.settled(False, float(second)) for second in range(100))
    assert made.counts().in_flight == 2


def test_what_is_in_flight_when_time_is_up_is_given_up_for_a_stated_reason():
    made = accounting(9, 8, 6, {"overload": 1})
    made.write_off("shutdown")
    assert made.counts().dropped == {"overload": 1, "shutdown": 2}
    assert made.counts().in_flight == 0
