import pytest
import torch

from benchmarks.without_motion import appearance_alone, pairs_of_noise
from pipeline.errors import CheckpointError
from pipeline.inference.engine import Engine
from pipeline.models.card import ChannelConstants, ReadOutConstants
from pipeline.models.checkpoint import save_checkpoint
from pipeline.models.motion import CELL_PX
from pipeline.types import FrameBatch
from tests.models.tiny import SIZE_PX, tiny_checkpoint, tiny_model

UNIT = ChannelConstants(centre=0.0, spread=1.0)


@pytest.fixture(scope="module")
def seeing_motion(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inference") / "m"
    card, encoder, flows = tiny_model()
    constants = ReadOutConstants(common_share=0.5, common=UNIT, shown=UNIT, scored=UNIT, motion=UNIT)
    scales = torch.full((len(card.scenes) + 1, SIZE_PX[0] // CELL_PX, SIZE_PX[1] // CELL_PX), 0.01)
    save_checkpoint(folder, card.model_copy(update={"read_out": constants}), encoder, flows, scales)
    return Engine.load(folder)


def test_what_a_model_is_compared_with_scores_as_if_its_frames_had_no_pairs(seeing_motion):
    batch = pairs_of_noise(3, SIZE_PX)
    unpaired = FrameBatch.unpaired(batch.headers, batch.images)
    compared, expected, moving = (
        [prediction.anomaly_score for prediction in engine.predict(frames, ["gate"] * 3)]
        for engine, frames in (
            (appearance_alone(seeing_motion), batch),
            (seeing_motion, unpaired),
            (seeing_motion, batch),
        )
    )
    assert compared == pytest.approx(expected, rel=1e-5)
    assert all(with_motion > without + 1.0 for with_motion, without in zip(moving, compared, strict=True))


def test_a_model_without_motion_is_refused(tmp_path):
    tiny_checkpoint(tmp_path / "m")
    with pytest.raises(CheckpointError, match="expected a model with motion"):
        appearance_alone(Engine.load(tmp_path / "m"))
