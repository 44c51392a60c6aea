"""The law of what exceeds the footage: right where it must be, cautious where nobody knows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pipeline.scoring.tail import Tail


def fitted(levels, least=0.0, usual=1.0) -> Tail:
    levels = np.sort(np.asarray(levels, np.float64))[::-1]
    return Tail.fitted(levels, np.ones(len(levels)), least, usual)


# Scipy's own law comes apart at shapes next to 0.
shapes = st.floats(-0.25, 0.25).map(lambda shape: shape if abs(shape) > 1e-4 else 0.0)


@given(st.floats(0.1, 10.0), shapes, st.floats(0.0, 200.0))
def test_the_law_is_the_generalised_pareto_law(scale, shape, excess):
    tail = Tail(base=2.0, count=30.0, scale=scale, shape=shape)
    expected = 30.0 * stats.genpareto.sf(excess, shape, scale=scale)
    assert tail.counted(2.0 + excess) == pytest.approx(expected, rel=1e-3, abs=1e-12)
    if expected > 1e-9:
        assert tail.level_for(tail.counted(2.0 + excess)) == pytest.approx(2.0 + excess, rel=1e-6)


@pytest.mark.parametrize("shape", [-0.2, 0.0, 0.2])
def test_much_footage_tells_the_shape(shape):
    """The fit is of the highest hundred at most, so a hundred samples of a hundred say where it lies."""
    generator = np.random.default_rng(0)
    samples = stats.genpareto.rvs(shape, size=(100, 200), random_state=generator)
    shapes = [fitted(sample).shape for sample in samples]
    expected = shape * 100 / (100 + 400 / 3)  # drawn towards 0
    assert np.mean(shapes) == pytest.approx(expected, abs=0.03)


@given(st.lists(st.floats(0.0, 1e6), max_size=40), st.floats(0.0, 10.0), st.floats(1e-6, 1.0))
def test_rarer_is_never_lower_and_nothing_is_below_the_base(levels, usual, events):
    tail = fitted(levels, usual=usual)
    assert abs(tail.shape) <= 0.25
    assert tail.base <= tail.level_for(events) <= tail.level_for(events / 2)
    assert not tail.scale or tail.counted(tail.level_for(events)) <= events * (1 + 1e-6)
    assert tail.counted(tail.base) == tail.count


def test_a_single_peak_is_taken_to_exceed_by_what_is_usual():
    tail = fitted([1.0], usual=0.5)
    assert tail.scale == pytest.approx((1.0 + 9 * 0.5) / 10, rel=0.01)
    assert fitted([], least=3.0, usual=0.5).level_for(0.1) == 3.0
