"""How many detectors there are to be, by how busy they are: seconds pass as the test says."""

from hypothesis import given
from hypothesis import strategies as st

from pipeline.runtime.scaling import DetectorScaling
from pipeline.runtime.tally import DetectorLoad


class Pool:
    """Detectors, each busy for a share of the time."""

    def __init__(self, minimum=1, maximum=4, active=1, room=99):
        self.scaling = DetectorScaling(minimum, maximum)
        self.active, self.room, self.now, self.dropped = active, room, 1000.0, 0
        self.busy_s = {}

    def run(self, seconds, demand, *, dropped=0, oldest_s=0.0, alive=None):
        """Have them do ``demand`` detectors' worth of work; gives after how many seconds their number changed."""
        before = self.active
        for second in range(int(4 * seconds)):
            self.now += 0.25
            self.dropped += dropped if second % 4 == 0 else 0
            names = [f"d{number}" for number in range(self.active if alive is None else alive)]
            for name in names:
                self.busy_s[name] = self.busy_s.get(name, 0.0) + 0.25 * min(1.0, demand / len(names))
            loads = {name: DetectorLoad(busy_s=self.busy_s[name], oldest_s=oldest_s) for name in names}
            self.active = self.scaling.update(self.now, loads, active=self.active, dropped=self.dropped, room=self.room)
            if self.active != before:
                return second / 4
        return None


def test_it_grows_one_by_one_under_overload_that_lasts_up_to_what_is_needed():
    pool = Pool()
    assert 15.0 <= pool.run(60, 2.5) <= 30.0
    assert pool.active == 2
    assert 15.0 <= pool.run(60, 2.5) <= 30.0
    assert pool.active == 3
    assert pool.run(600, 2.5) is None  # a share of .83 each, and nothing late


def test_a_burst_starts_nothing():
    pool = Pool()
    for _ in range(10):
        assert pool.run(10, 1.0, dropped=5) is None
        assert pool.run(20, 0.2) is None


def test_frames_that_are_dropped_or_wait_tell_of_overload_before_all_time_is_used_but_not_while_there_is_time_left():
    assert Pool().run(60, 0.8) is None
    assert Pool().run(60, 0.8, dropped=1) is not None
    assert Pool().run(60, 0.8, oldest_s=1.5) is not None
    assert Pool().run(60, 0.3, dropped=9) is None  # they are too late for another reason


def test_it_shrinks_after_minutes_of_calm_and_stays_where_one_fewer_would_be_busy():
    pool = Pool(active=3)
    assert 180.0 <= pool.run(400, 1.0) <= 200.0
    assert pool.active == 2
    assert pool.run(1000, 1.0) is None
    assert pool.run(170, 0.3) is None
    assert pool.run(10, 1.9) is None  # it is needed after all
    assert pool.run(170, 0.3) is None


def test_a_detector_that_is_not_there_or_was_started_again_is_no_sign_of_calm_or_of_overload():
    pool = Pool(active=2)
    assert pool.run(600, 2.0, alive=1) is None
    assert pool.run(10, 1.5) is None
    pool.busy_s["d0"] = 0.0
    assert pool.run(30, 1.5) is None


@given(
    st.lists(st.tuples(st.floats(0.0, 5.0), st.integers(0, 2), st.integers(1, 6)), max_size=4),
    st.integers(1, 3),
    st.integers(1, 5),
)
def test_it_never_leaves_its_limits_nor_outgrows_the_cluster(stretches, minimum, maximum):
    pool = Pool(minimum, maximum, active=minimum)
    for demand, dropped, room in stretches:
        pool.room = room
        before = pool.active
        pool.run(40, demand, dropped=dropped)
        assert minimum <= pool.active <= max(minimum, maximum)
        assert pool.active <= max(room, before)
