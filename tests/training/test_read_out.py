"""What is measured of a model's read-out, on footage that is made for it, through training and engine."""

from fractions import Fraction

import numpy as np
import pytest
from scipy import ndimage

from pipeline.camera_settings import AlertSettings
from pipeline.datasets.base import Clip, Dataset
from pipeline.inference.engine import Engine
from pipeline.models.card import read_card
from pipeline.models.normal_stretches import stretches_of_scene
from pipeline.models.read_out import read_speed_scales
from pipeline.scoring.calibration import Calibration
from pipeline.scoring.smoothing import CausalSmoother
from pipeline.training.measured_parts import LIGHTS
from pipeline.training.train import train
from pipeline.types import Frame, FrameBatch, FrameHeader, PreviousLuma
from pipeline.video.pairs import luma_of
from tests.models.tiny import SIZE_PX
from tests.training.footage import make_config, moving_square
from tests.videos import write_video

FPS = 10


def texture(seed):
    """Smooth colours, float (H, W, 3)."""
    ground = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(*SIZE_PX, 3)), (2.0, 2.0, 0.0))
    return 60.0 + 120.0 * (ground - ground.min()) / (ground.max() - ground.min())


def yard(frames, *, walks=False, races=False):
    """A still ground; something slow may walk over it, or something large and fast race down."""
    ground, stranger = texture(5), texture(9)
    for number in range(frames):
        image = ground.copy()
        if walks:
            left = number % 80
            image[28:40, left : left + 12] = 200.0
        if races:
            top = 5 * number % 40
            image[top : top + 24, 60:84] = stranger[:24, :24]
        yield image


def as_bytes(images):
    return [np.clip(np.round(image), 0.0, 255.0).astype(np.uint8) for image in images]


def as_dataset(root, scenes, fps=FPS):
    """Scene to the frames of its clips."""
    clips = []
    for scene, footage in scenes.items():
        for number, images in enumerate(footage):
            path = root / f"{scene}_{number}.mp4"
            write_video(path, images, size_px=SIZE_PX, fps=fps if isinstance(fps, int) else fps[scene])
            clips.append(Clip(path.stem, scene, str(path), len(images)))
    return Dataset("stc", root, tuple(clips), ())


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model of a yard: its folder and card."""
    root = tmp_path_factory.mktemp("yard")
    dataset = as_dataset(root, {"yard": [as_bytes(yard(40, walks=True))] * 2})
    return root / "m", train(make_config(augmentation={"variants": 1}), dataset, root / "m")


def smoothed_scores(folder, images):
    """Of frames that come at 10 fps, as a camera's are."""
    frames = as_bytes(images)
    pairs = [None, *(PreviousLuma(luma_of(frame), 1.0 / FPS) for frame in frames[:-1])]
    batch = FrameBatch.of(
        [
            Frame(FrameHeader("yard", 0, number, number, Fraction(1, FPS), 0.0), frame, pair)
            for number, (frame, pair) in enumerate(zip(frames, pairs, strict=True))
        ]
    )
    smoother = CausalSmoother(AlertSettings().smoothing_s)
    found = Engine.load(folder).predict(batch, ["yard"] * len(frames), maps=False)
    return [smoother.update(one.anomaly_score, 0, one.header.media_time_s) for one in found]


def threshold_of(card):
    settings = AlertSettings(quantile=0.995)
    return Calibration.of(stretches_of_scene(card, "yard"), settings).thresholds.opening


LIGHTS_OF_THE_DAY = {
    "the same": np.ones(40),
    "half within a second": np.interp(np.arange(40), (10, 20), (1.0, 0.5)),
    "half, slowly": np.linspace(1.0, 0.5, 40),
}


@pytest.mark.parametrize("light", LIGHTS_OF_THE_DAY)
def test_light_that_changes_raises_no_alarm_and_hides_no_event(model, light):
    folder, card = model
    gains = LIGHTS_OF_THE_DAY[light]
    for changes in ({}, {"walks": True}):
        seen = [image * gain for image, gain in zip(yard(40, **changes), gains, strict=True)]
        assert max(smoothed_scores(folder, seen)) < threshold_of(card)
    seen = [image * gain for image, gain in zip(yard(40, races=True), gains, strict=True)]
    scores = smoothed_scores(folder, seen)
    assert min(scores[3:10]) >= threshold_of(card)
    assert min(scores[25:]) >= threshold_of(card)


def test_a_still_camera_has_constants_of_its_own(tmp_path):
    """Nothing moves in it but by the codec, and the first leaf is no event."""
    still = [moving_square(1, 0)[0]] * 12
    card = train(make_config(epochs=1), as_dataset(tmp_path, {"gate": [still]}), tmp_path / "m")
    motion = card.read_out.motion
    assert 0.25 <= motion.spread < 1.0
    assert 0.0 <= motion.centre < 1.0
    assert read_speed_scales(tmp_path / "m").min() >= 0.01
    assert np.isfinite([score for clip in card.normal_scores["gate"] for score in clip]).all()


def test_footage_without_pairs_gives_a_model_of_appearance_and_one_beside_it_takes_the_speeds_of_all(tmp_path):
    footage = {"gate": [moving_square(6, 0)], "road": [moving_square(8, 1)]}
    slow = train(make_config(epochs=1), as_dataset(tmp_path, footage, fps=1), tmp_path / "slow")
    assert slow.read_out.motion is None
    assert slow.unpaired_scores == {}
    assert read_speed_scales(tmp_path / "slow") is None
    assert Engine.load(tmp_path / "slow").card == slow

    rates = {"gate": 1, "road": FPS}
    card = train(make_config(epochs=1), as_dataset(tmp_path, footage, fps=rates), tmp_path / "mixed")
    assert card.read_out.motion is not None
    gate, road, of_all = read_speed_scales(tmp_path / "mixed")
    assert np.array_equal(gate, of_all)
    assert np.array_equal(road, of_all)  # it alone has pairs
    assert card.unpaired_scores["gate"] == card.normal_scores["gate"]
    assert card.unpaired_scores["road"] != card.normal_scores["road"]


def test_a_scene_of_which_one_frame_is_held_out_has_finite_constants(tmp_path):
    card = train(make_config(epochs=1), as_dataset(tmp_path, {"gate": [moving_square(2, 0)]}), tmp_path / "m")
    assert card.provenance.holdout_frames == 1
    own, *others, learned = card.normal_scores["gate"]
    assert (len(own), len(others), len(learned)) == (1, LIGHTS, 1)
    assert np.isfinite([own, *others, learned]).all()
    assert read_card(tmp_path / "m") == card  # JSON has no infinity


def test_other_light_makes_other_scores_and_both_are_kept(model):
    _, card = model
    of_clips = card.normal_scores["yard"]
    lengths = [4] * 2 * (1 + LIGHTS) + [34, 34]  # the last of one clip, the first of the other, and a gap of 2
    assert [len(scores) for scores in of_clips] == lengths
    for first in (0, 1 + LIGHTS):
        own, *others = of_clips[first : first + 1 + LIGHTS]
        assert all(other != own for other in others)
    assert [list(map(len, kept["yard"])) for kept in (card.unpaired_scores, card.normal_common)] == [lengths] * 2


def test_a_training_that_is_not_to_look_at_motion_does_not(tmp_path):
    config = make_config(epochs=1)
    motion = config.model.motion.model_copy(update={"enabled": False})
    config = config.model_copy(update={"model": config.model.model_copy(update={"motion": motion})})
    card = train(config, as_dataset(tmp_path, {"gate": [moving_square(8, 0)]}), tmp_path / "m")
    assert (card.read_out.motion, card.unpaired_scores) == (None, {})
    assert read_speed_scales(tmp_path / "m") is None
