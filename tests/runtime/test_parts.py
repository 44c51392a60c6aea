"""Parts of batches on their way to several scorers."""

from hypothesis import given
from hypothesis import strategies as st

from pipeline.runtime.parts import GatheredParts
from pipeline.runtime.slices import ScorerSlices

SCORERS = ("s0", "s1", "s2")
CAMERAS = {"a": "s0", "g": "s1", "b": "s2"}
RESULTS = st.lists(st.tuples(st.sampled_from(sorted(CAMERAS)), st.integers()), max_size=8)


def parts(scorers=SCORERS):
    return GatheredParts(ScorerSlices(scorers), lambda result: result[0])


def yes():
    return True


def no():
    return False


@given(st.lists(st.tuples(RESULTS, st.sampled_from([0.0, 0.01, 0.2]), st.booleans())))
def test_every_result_goes_once_in_order_to_its_own_scorer_and_none_waits_long_or_where_no_frame_does(batches):
    gathered, now, sent = parts(), 0.0, {name: [] for name in SCORERS}
    came = {name: [] for name in SCORERS}  # when, and what
    for batch, pause_s, more in batches:
        now += pause_s
        for result in batch:
            came[CAMERAS[result[0]]].append((now, result))
        for name, part in gathered.add(batch, now, lambda m=more: m):
            assert part
            sent[name] += part
        for name, own in came.items():
            assert sent[name] == [result for _, result in own[: len(sent[name])]]
            late = own[len(sent[name]) :]
            assert not late or (more and now - late[0][0] < 0.05)


def test_calls_are_as_large_as_batches_as_long_as_one_follows_the_other():
    gathered, batch = parts(), [("a", 1), ("g", 1), ("b", 1), ("a", 2)]
    sent = [gathered.add(batch, 0.0, yes) for _ in range(4)]
    assert sent[0] == []
    assert sent[1] == [("s0", [("a", 1), ("a", 2)] * 2)]
    assert {name: len(part) for name, part in sent[3]} == {"s0": 4, "s1": 4, "s2": 4}
    assert gathered.add([("g", 9)], 0.0, no) == [("s1", [("g", 9)])]


def test_with_one_scorer_nothing_waits():
    assert parts(["s0"]).add([("a", 1), ("g", 1)], 0.0, yes) == [("s0", [("a", 1), ("g", 1)])]
