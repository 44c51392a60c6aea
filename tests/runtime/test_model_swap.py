"""One model that follows another: what is to be done, and when."""

import pytest

from pipeline.models.source import ModelSource
from pipeline.runtime.model_swap import LOADED_WITHIN_S, ModelSwap, RunModel, SwapStep
from tests.models.tiny import tiny_model

CARD, *_ = tiny_model()


def model(name):
    return RunModel(CARD.model_copy(update={"fingerprint": name}), ModelSource(name, f"/models/{name}"))


A, B = model("a" * 64), model("b" * 64)
NOTHING = SwapStep()


def step(swap, now=0.0, *, detectors=("d0", "d1"), up=(), failed=None, scorers_follow=True):
    return swap.step(now, detectors=detectors, up=up, failed=failed or {}, scorers_follow=scorers_follow)


@pytest.fixture
def swap():
    """Detector d0 has the first model; d1 is loading the other one."""
    swap = ModelSwap(A)
    assert swap.cards == ()
    assert step(swap, detectors=("d0",), up=("d0",)) == NOTHING
    swap.begin(B, ["d1"], now=0.0)
    return swap


def test_the_old_detectors_are_retired_once_the_new_ones_live_and_scorers_know_the_new_model(swap):
    assert [card.fingerprint[0] for card in swap.cards] == ["b", "a"]
    assert swap.status().phase == "loading"
    assert step(swap, up=("d0",)) == NOTHING
    assert step(swap, up=("d0", "d1"), scorers_follow=False) == NOTHING
    assert (swap.current, swap.before) == (A, None)
    assert step(swap, up=("d0", "d1")) == SwapStep(retire=("d0",))
    assert (swap.current, swap.before, swap.status().phase) == (B, A, "taking over")
    assert [card.fingerprint[0] for card in swap.cards] == ["a", "b"]  # frames that the old one has are on their way
    assert step(swap, up=("d1",)) == NOTHING  # the old one is there to be as long as it holds frames
    assert swap.is_changing
    assert step(swap, detectors=("d1",), up=("d1",)) == SwapStep(spare=True)
    assert (swap.is_changing, swap.status().phase, swap.status().before) == (False, "in use", A.card.fingerprint)
    assert [card.fingerprint[0] for card in swap.cards] == ["b"]


def test_going_back_is_the_same_with_the_model_before(swap):
    step(swap, up=("d1",))
    step(swap, detectors=("d1",), up=("d1",))
    swap.begin(swap.before, ["d2"], now=9.0)
    assert step(swap, detectors=("d1", "d2"), up=("d1", "d2")) == SwapStep(retire=("d1",))
    step(swap, detectors=("d2",), up=("d2",))
    assert (swap.current, swap.before, swap.cards) == (A, B, ())


def test_where_a_new_detector_cannot_start_only_the_new_ones_are_retired_and_the_reason_is_kept(swap):
    given_up = step(swap, up=("d0",), failed={"d1": "no such weights", "d0": "it died once"})
    assert given_up == SwapStep(retire=("d1",))
    assert (swap.current, swap.before, swap.status().phase) == (A, None, "in use")
    assert len(swap.cards) == 2  # it may have taken over from one that died, and has frames
    assert step(swap, detectors=("d0",), up=("d0",)) == SwapStep(spare=True)
    assert (swap.is_changing, swap.cards) == (False, ())
    assert swap.status().failure == f"model {'b' * 12}: d1 did not start: no such weights"
    swap.begin(B, ["d2"], now=1.0)
    assert swap.status().failure == ""


def test_nobody_waits_for_ever_for_a_new_detector(swap):
    assert step(swap, LOADED_WITHIN_S - 1.0, up=("d0",)) == NOTHING
    assert step(swap, LOADED_WITHIN_S, up=("d0",)) == SwapStep(retire=("d1",))
    assert "expected d1 to start within 300 s" in swap.status().failure


def test_scorers_that_are_slow_to_follow_are_waited_for_since_they_come_back(swap):
    assert step(swap, 2 * LOADED_WITHIN_S, up=("d0", "d1"), scorers_follow=False) == NOTHING
    assert step(swap, 2 * LOADED_WITHIN_S, up=("d0", "d1")) == SwapStep(retire=("d0",))


def test_a_process_that_goes_on_with_a_change_knows_what_the_one_before_knew(swap):
    again = ModelSwap(A, swap.saved, now=9.0)
    assert again.cards == swap.cards
    assert (again.source_of("d0"), again.source_of("d1")) == (A.source, B.source)
    assert step(again, up=("d0", "d1")) == SwapStep(retire=("d0",))
    again = ModelSwap(A, again.saved)
    assert (again.status().phase, again.current, again.before) == ("taking over", B, A)
    assert [again.source_of(name) for name in ("d0", "d1", "d2")] == [A.source, B.source, B.source]
    assert step(again, detectors=("d1",)) == SwapStep(spare=True)
    assert ModelSwap(A, again.saved).cards == (B.card,)
    given_up = ModelSwap(A, swap.saved)
    step(given_up, up=("d0",), failed={"d1": "no such weights"})
    assert ModelSwap(A, given_up.saved).status().phase == "in use"
    assert given_up.source_of("d1") == B.source
