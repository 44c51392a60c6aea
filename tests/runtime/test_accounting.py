from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

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


class Wandering(RuleBasedStateMachine):
    """A camera that moves from node to node, in good order or because its node is lost; reports come when they come."""

    def __init__(self):
        super().__init__()
        self.accounting = CameraAccounting(1.0)
        self.number = 0
        self.here = self.reader()
        self.known_scores = self.scored = self.lost = 0
        self.counted = {}
        self.on_their_way = []
        self.decoded_before = 0  # on nodes that it left in good order, or as far as anybody has heard
        self.was_lost = False

    def reader(self):
        self.number += 1
        return {"id": f"n{self.number}", "decoded": 0, "dispatched": 0, "dropped": 0}

    def counts_of(self, reader):
        return reader["id"], ReaderCounts(reader["decoded"], reader["dispatched"], {"overload": reader["dropped"]})

    @rule(frames=st.integers(1, 4))
    def decode(self, frames):
        self.here["decoded"] += frames

    @precondition(lambda self: self.waiting() > 0)
    @rule()
    def drop(self):
        self.here["dropped"] += 1

    @precondition(lambda self: self.waiting() > 0)
    @rule()
    def dispatch(self):
        self.on_their_way.append((self.here["id"], self.here["dispatched"]))
        self.here["dispatched"] += 1

    @rule(frames=st.integers(0, 4))
    def score(self, frames):
        """The scorer hears of frames in order, as ``CameraState`` does."""
        for counter_id, serial in self.on_their_way[:frames]:
            last = next(reversed(self.counted), None)
            if last is not None and counter_id != last and counter_id in self.counted:
                continue  # passed over: of a session before
            self.lost += serial - self.counted.get(counter_id, 0)
            self.counted[counter_id] = serial + 1
            self.scored += 1
        del self.on_their_way[:frames]

    @precondition(lambda self: self.on_their_way)
    @rule(position=st.integers(0, 9))
    def lose(self, position):
        """With a detector."""
        del self.on_their_way[position % len(self.on_their_way)]

    @rule()
    def report(self):
        self.accounting.update_reader(*self.counts_of(self.here))

    @rule()
    def report_scores(self):
        newest = dict(list(self.counted.items())[-4:])
        self.accounting.update_scorer(self.scored, {"detector_lost": self.lost}, newest)

    @rule(reported=st.booleans(), again=st.booleans())
    def move(self, reported, again):
        """In good order; what waits is dropped, and its last report may come before or after another one's first."""
        self.here["dropped"] += self.waiting()
        before, self.here = self.here, self.reader()
        if reported:
            self.accounting.update_reader(*self.counts_of(self.here))
        self.accounting.update_former_reader(*self.counts_of(before))
        if again:
            self.accounting.update_former_reader(*self.counts_of(before))
        self.decoded_before += before["decoded"]

    @rule()
    def lose_node(self):
        self.here = self.reader()
        self.was_lost = True

    @invariant()
    def never_less_than_nothing_is_in_flight(self):
        counts = self.accounting.counts()
        assert counts.in_flight >= 0
        assert all(count > 0 for count in counts.dropped.values())

    def waiting(self):
        return self.here["decoded"] - self.here["dispatched"] - self.here["dropped"]

    def teardown(self):
        """Once a frame of where it is now is scored, and everyone has said so, the books are exact."""
        self.decode(1)
        while self.waiting():
            self.dispatch()
        self.score(len(self.on_their_way))
        self.report()
        self.report_scores()
        counts = self.accounting.counts()
        assert (counts.scored, counts.in_flight) == (self.scored, 0)
        if not self.was_lost:
            assert counts.decoded == self.decoded_before + self.here["decoded"]


TestWandering = Wandering.TestCase
TestWandering.settings = settings(max_examples=100, stateful_step_count=30)


def test_of_a_lost_node_counts_what_was_reported_and_what_the_scorer_has_heard_beyond_it():
    made = CameraAccounting(1.0)
    made.update_reader("lost", ReaderCounts(20, 10, {"sampling": 6}))
    made.update_scorer(8, {}, {"lost": 8})
    assert made.counts().in_flight == 6
    made.update_reader("here", ReaderCounts(0, 0, {}))  # nothing has come there yet: two may still be scored
    assert (made.counts().dropped, made.counts().in_flight) == ({"sampling": 6, "camera_lost": 4}, 2)
    made.update_scorer(12, {}, {"lost": 12})  # there were more than it had said; those had waited
    assert (made.counts().dropped, made.counts().in_flight) == ({"sampling": 6, "camera_lost": 2}, 0)
    made.update_scorer(12, {}, {"lost": 9, "here": 3})
    made.update_reader("here", ReaderCounts(3, 3, {}))
    assert made.counts().dropped == {"sampling": 6, "camera_lost": 4, "detector_lost": 1}
    assert (made.counts().decoded, made.counts().in_flight) == (23, 0)
