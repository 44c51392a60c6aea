import pytest

from tests.models.tiny import tiny_checkpoint


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny model with camera embeddings that sees motion."""
    made = tmp_path_factory.mktemp("tiny") / "m"
    tiny_checkpoint(made, sees_motion=True, camera_embedding=4)
    return made
