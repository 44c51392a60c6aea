import numpy as np
import pytest

from pipeline.errors import CheckpointError
from pipeline.models.normal_stretches import stretches_of_scene
from tests.models.tiny import tiny_model


def card(normal, unpaired=None, kinds=None):
    made, *_ = tiny_model(scenes=("gate",))
    told = {"normal_scores": normal, "unpaired_scores": unpaired or {}, "normal_kinds": kinds or {}}
    return made.model_copy(update={**told, "normal_fps": 10.0})


def told(stretches):
    return [
        (one.kind, one.fps, one.scores.tolist(), None if one.unpaired is None else one.unpaired.tolist())
        for one in stretches
    ]


def test_a_scenes_clips_are_its_stretches_with_what_they_score_without_pairs_where_that_was_measured():
    known = card({"a": ((1.0, 2.0), (), (3.0,)), "b": ((5.0,),)}, {"a": ((3.0, 4.0), (), (6.0,))})
    assert told(stretches_of_scene(known, "a")) == [
        ("own", 10.0, [1.0, 2.0], [3.0, 4.0]),
        ("own", 10.0, [3.0], [6.0]),
    ]
    assert told(stretches_of_scene(known, "b")) == [("own", 10.0, [5.0], None)]


def test_a_card_that_says_what_each_of_its_clips_is_good_for_is_believed_also_where_scenes_are_pooled():
    known = card({"a": ((1.0,), (2.0,), (3.0,))}, kinds={"a": ("own", "light", "learned")})
    assert [one.kind for one in stretches_of_scene(known, "a")] == ["own", "light", "learned"]
    assert [one.kind for one in stretches_of_scene(known, "b")] == ["learned", "light", "learned"]


@pytest.mark.parametrize("scene", ["nowhere", "empty"])
def test_a_scene_the_model_does_not_know_gets_all_scenes_footage_which_proves_nothing_of_it(scene):
    known = card({"a": ((1.0, 2.0),), "b": ((5.0,),), "empty": ((),)})
    assert told(stretches_of_scene(known, scene)) == [
        ("learned", 10.0, [1.0, 2.0], None),
        ("learned", 10.0, [5.0], None),
    ]


@pytest.mark.parametrize(
    ("normal", "unpaired", "said"),
    [
        ({}, {}, "expected scores of held-out normal frames, got none"),
        ({"a": ((),)}, {}, "expected scores of held-out normal frames, got none"),
        ({"a": ((1.0, 2.0),)}, {"a": ((1.0,),)}, "unpaired_scores: expected one for every frame of normal_scores of"),
    ],
)
def test_a_card_without_normal_scores_or_with_others_than_it_says_is_refused(normal, unpaired, said):
    with pytest.raises(CheckpointError, match=said):
        stretches_of_scene(card(normal, unpaired), "a")


def test_scores_are_numbers_of_double_precision():
    assert stretches_of_scene(card({"a": ((1.0,),)}), "a")[0].scores.dtype == np.float64
