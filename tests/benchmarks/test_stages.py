from benchmarks.stages import stages_of
from pipeline.inference.engine import Engine
from tests.models.tiny import tiny_checkpoint


def test_every_stage_of_a_batch_is_timed(tmp_path):
    tiny_checkpoint(tmp_path / "m", sees_motion=True)
    found = stages_of(Engine.load(tmp_path / "m"), 2, rounds=1)
    assert set(found) == {"predict", "upload", "encoder", "flows", "read_out", "speeds", "download"}
    assert all(taken["wall"] > 0.0 for taken in found.values())
