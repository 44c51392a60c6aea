import pytest

from pipeline.console.comparison_folder import STATE_FILE, ComparisonFolder, Trained
from pipeline.errors import BadInputError

SETTINGS = {"model": {"image_size_px": (64, 96)}, "footage": {"train": [("a", "01", 1, 2)]}}


def opened(tmp_path, settings=SETTINGS):
    return ComparisonFolder(tmp_path / "out", settings)


def test_a_new_folder_has_nothing_done(tmp_path):
    folder = opened(tmp_path)
    assert folder.features_s is None
    assert folder.trained("padim") is None
    assert not folder.replayed("padim")


def test_what_was_done_is_known_when_the_folder_is_opened_again(tmp_path):
    folder = opened(tmp_path)
    folder.note_features(3.5)
    folder.note_trained("padim", Trained(seconds=7.0, peak_memory_mb=200.0))
    folder.note_replayed("padim")
    again = opened(tmp_path)
    assert again.features_s == 3.5
    assert again.trained("padim") == Trained(seconds=7.0, peak_memory_mb=200.0)
    assert again.replayed("padim")
    assert not again.replayed("spade")


@pytest.mark.parametrize(
    "other",
    [SETTINGS | {"model": {"image_size_px": (64, 64)}}, SETTINGS | {"footage": {"train": [("a", "01", 1, 3)]}}],
)
def test_a_comparison_with_other_settings_or_footage_is_refused(tmp_path, other):
    opened(tmp_path)
    with pytest.raises(BadInputError, match="got one with others"):
        opened(tmp_path, other)


def test_a_folder_of_somebody_else_is_refused_and_left_alone(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("x")
    with pytest.raises(BadInputError, match="new or empty folder"):
        opened(tmp_path)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_a_file_in_its_place_is_refused(tmp_path):
    (tmp_path / "out").write_text("x")
    with pytest.raises(BadInputError, match="new or empty folder"):
        opened(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b'{"settings": 1}', b'{"settings": {}, "more": 1}', b"\xff"])
def test_a_damaged_state_is_refused_in_one_line(tmp_path, content):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / STATE_FILE).write_bytes(content)
    with pytest.raises(BadInputError, match="expected the state of a comparison") as raised:
        opened(tmp_path)
    assert "\n" not in str(raised.value)


def test_what_an_interrupted_step_left_goes_before_it_is_begun_again(tmp_path):
    folder = opened(tmp_path)
    for place in (folder.features, folder.model("padim"), folder.scores("padim"), folder.model("spade")):
        place.mkdir(parents=True)
        (place / "part").write_text("x")
    folder.begin_replay("padim")
    assert not folder.scores("padim").exists()
    assert folder.model("padim").exists()
    folder.begin_training("padim")
    folder.begin_features()
    assert not folder.model("padim").exists()
    assert not folder.features.exists()
    assert folder.model("spade").exists()
