import numpy as np
import pytest

from pipeline.training.synthetic_anomalies import KINDS, Thing, draw_thing, paste
from pipeline.video.pairs import luma_of

FPS = 10.0
GAP_S = 0.1  # one frame
HEIGHT, WIDTH = 48, 80


@pytest.fixture(scope="module")
def footage():
    """Twenty frames of a textured ground on which a square walks: frames, the luma before them, the gaps."""
    random = np.random.default_rng(0)
    ground = random.integers(0, 220, (6, 10, 3), dtype=np.uint8).repeat(8, axis=0).repeat(8, axis=1)
    frames = np.stack([ground] * 20)
    for number, frame in enumerate(frames):
        frame[20:30, 2 * number : 2 * number + 8] = 240
    previous_luma = np.stack([luma_of(frame) for frame in (frames[0], *frames[:-1])])
    previous_luma[0] = 0
    gaps_s = np.full(20, GAP_S, np.float32)
    gaps_s[0] = 0.0
    for array in (frames, previous_luma, gaps_s):
        array.flags.writeable = False
    return frames, previous_luma, gaps_s


def thing(kind="moves", begins_s=-1.0, turns_s=0.0, start=(10.0, 10.0), velocity=(0.0, 20.0)):
    return Thing(
        kind, np.full((6, 8, 3), 255, np.uint8), np.ones((6, 8), np.float32), begins_s, turns_s, start, velocity
    )


def drawn(footage, monkeypatch, *things):
    """What ``paste`` makes of things that are not drawn."""
    waiting = list(things)
    monkeypatch.setattr("pipeline.training.synthetic_anomalies.draw_thing", lambda *_: waiting.pop())
    monkeypatch.setattr("pipeline.training.synthetic_anomalies._MOST_THINGS", len(things))
    return paste(*footage, FPS, np.random.default_rng(0))


@pytest.mark.parametrize("seed", range(6))
def test_what_is_pasted_lies_where_the_mask_says_and_follows_from_the_seed(footage, seed):
    frames, previous_luma, gaps_s = footage
    pasted, luma_before, masks = paste(*footage, FPS, np.random.default_rng(seed))
    for array, like in ((pasted, frames), (luma_before, previous_luma)):
        assert (array.shape, array.dtype) == (like.shape, np.uint8)
    assert (masks.shape, masks.dtype) == (frames.shape[:3], np.bool_)
    assert masks.any()
    changed = (pasted != frames).any(axis=3)
    for mask, where in zip(masks, changed, strict=True):
        # But for soft edges nothing changes beside the mask; at the image's border they may be all that is in it.
        assert not where[2:-2, 2:-2][~_grown(mask)[2:-2, 2:-2]].any()
    assert changed[masks].mean() > 0.9
    assert not luma_before[gaps_s == 0].any()
    again = paste(*footage, FPS, np.random.default_rng(seed))
    assert all(np.array_equal(a, b) for a, b in zip(again, (pasted, luma_before, masks), strict=True))


def _grown(mask):
    padded = np.pad(mask, 2)
    rows, columns = mask.shape
    return np.any([padded[y : y + rows, x : x + columns] for y in range(5) for x in range(5)], axis=0)


@pytest.mark.parametrize("seed", range(6))
def test_the_frame_before_shows_what_the_frame_that_came_before_shows(footage, seed):
    """The gap is that between two frames here, so that both were pasted on by the same law."""
    pasted, luma_before, _ = paste(*footage, FPS, np.random.default_rng(seed))
    for now in range(1, len(pasted)):
        difference = np.abs(luma_before[now].astype(int) - luma_of(pasted[now - 1]))
        assert difference.max() <= 2  # blended in luma here, in three colours there, and rounded


def test_a_thing_that_moves_is_a_gap_earlier_in_the_frame_before(footage, monkeypatch):
    pasted, luma_before, masks = drawn(footage, monkeypatch, thing(velocity=(0.0, 20.0)))
    for now in (1, 5, 19):
        left = 10 + 2 * now  # two pixels a frame
        assert np.array_equal(np.flatnonzero(masks[now].any(axis=0)), np.arange(left, left + 8))
        assert (pasted[now, 10:16, left : left + 8] == 255).all()
        assert (luma_before[now, 10:16, left - 2 : left + 6] == 255).all()
        assert (luma_before[now, 10:16, left + 6 : left + 8] != 255).all()


def test_a_slow_thing_moves_by_parts_of_a_pixel(footage, monkeypatch):
    pasted, _, _ = drawn(footage, monkeypatch, thing(velocity=(0.0, 2.5)))
    edge = pasted[:5, 12, 10].astype(int)  # its left column uncovers the ground bit by bit
    ground = footage[0][0, 12, 10].astype(int)
    for now, seen in enumerate(edge):
        np.testing.assert_allclose(seen, 255 + (ground - 255) * 0.25 * now, atol=0.51)


def test_a_thing_that_appears_is_not_there_before_and_stays(footage, monkeypatch):
    pasted, luma_before, masks = drawn(footage, monkeypatch, thing("appears", 0.65, 0.65, velocity=(0.0, 0.0)))
    assert [mask.any() for mask in masks] == [False] * 7 + [True] * 13
    np.testing.assert_array_equal(pasted[:7], footage[0][:7])
    np.testing.assert_array_equal(luma_before[:8], footage[1][:8])  # in the first frame that has it, it is new
    assert (luma_before[8:, 10:16, 10:18] == 255).all()
    assert all(np.array_equal(mask, masks[7]) for mask in masks[7:])


def test_a_thing_that_dashes_off_stands_first(footage, monkeypatch):
    _, _, masks = drawn(footage, monkeypatch, thing("dashes", 0.15, 1.0, velocity=(0.0, 40.0)))
    lefts = [int(np.flatnonzero(mask.any(axis=0))[0]) for mask in masks[2:]]
    assert lefts == [10] * 9 + [10 + 4 * steps for steps in range(1, 10)]


def test_a_thing_leaves_the_image_and_touches_nothing_then(footage, monkeypatch):
    pasted, _, masks = drawn(footage, monkeypatch, thing(start=(44.0, 60.0), velocity=(10.0, 40.0)))
    assert masks[0, 44:, 60:68].all()
    assert masks[0].sum() == 4 * 8
    assert not masks[6:].any()
    np.testing.assert_array_equal(pasted[6:], footage[0][6:])


def test_things_are_of_every_kind_of_the_sizes_and_speeds_that_were_promised(footage):
    frames = footage[0][:8].repeat(3, axis=1).repeat(3, axis=2)
    height = frames.shape[1]
    things = [draw_thing(frames, FPS, np.random.default_rng(seed)) for seed in range(60)]
    assert {one.kind for one in things} == set(KINDS)
    for one in things:
        assert 0.003 < one.alpha.sum() / height**2 < 0.065
        assert 0.0 <= one.alpha.min() <= one.alpha.max() == 1.0
        assert one.patch.shape == (*one.alpha.shape, 3)
        assert one.begins_s <= one.turns_s < 0.8
        speed = np.hypot(*one.velocity) / height
        low, high = {"moves": (0.1, 1.0), "dashes": (0.5, 1.5), "appears": (0.0, 0.0)}[one.kind]
        assert low - 1e-9 <= speed <= high + 1e-9


def test_one_frame_and_footage_in_which_nothing_moves_will_do():
    still = np.zeros((1, HEIGHT, WIDTH, 3), np.uint8)
    nothing = np.zeros((1, HEIGHT, WIDTH), np.uint8), np.zeros(1, np.float32)
    for seed in range(5):
        _, luma_before, masks = paste(still, *nothing, FPS, np.random.default_rng(seed))
        assert masks.any()
        assert not luma_before.any()
