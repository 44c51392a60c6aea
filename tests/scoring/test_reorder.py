import itertools

from hypothesis import given
from hypothesis import strategies as st

from pipeline.scoring.reorder import OrderGate


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 20))))
def test_what_passes_rises_strictly_and_everything_that_sets_a_record_passes(orders):
    gate = OrderGate()
    passed = [order for order in orders if gate.accepts(order)]
    assert all(a < b for a, b in itertools.pairwise(passed))
    assert passed == [order for i, order in enumerate(orders) if all(order > before for before in orders[:i])]
    assert gate.last == (passed[-1] if passed else None)


def test_a_new_session_passes_though_its_index_starts_again():
    gate = OrderGate()
    assert gate.accepts((0, 100))
    assert gate.accepts((1, 0))
    assert not gate.accepts((0, 101))
