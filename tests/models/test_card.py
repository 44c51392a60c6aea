import hashlib
import json
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.camera_settings import CameraSettings
from pipeline.errors import CheckpointError
from pipeline.model_settings import ModelSettings
from pipeline.models.card import CARD_FILE, WEIGHTS_FILE, check_matches, read_card, unknown_scenes, write_card
from pipeline.types import SceneReference
from tests.models.forging import fingerprint_of, read_values, write_values
from tests.models.tiny import tiny_checkpoint, tiny_model


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tiny_checkpoint(folder)
    return folder


def test_a_card_comes_back_as_it_was_written(checkpoint):
    card, *_ = tiny_model()
    read = read_card(checkpoint)
    assert len(read.fingerprint) == 64
    assert read.short_fingerprint == read.fingerprint[:12]
    assert read.model_copy(update={"fingerprint": ""}) == card


@given(data=st.data())
@settings(max_examples=150)
def test_any_flipped_bit_of_the_card_is_noticed(checkpoint, tmp_path_factory, data):
    _flip(checkpoint, tmp_path_factory, data, CARD_FILE)


@given(data=st.data())
@settings(max_examples=60)
def test_any_flipped_bit_of_the_weights_is_noticed(checkpoint, tmp_path_factory, data):
    _flip(checkpoint, tmp_path_factory, data, WEIGHTS_FILE)


def _flip(checkpoint, tmp_path_factory, data, file):
    """Flip one bit of one file of a copy; reading it must name that file in one line."""
    content = bytearray((checkpoint / file).read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= 1 << data.draw(st.integers(0, 7))
    folder = tmp_path_factory.mktemp("flipped")
    for name in (CARD_FILE, WEIGHTS_FILE):
        (folder / name).write_bytes((checkpoint / name).read_bytes())
    (folder / file).write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        read_card(folder)
    assert file in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("file", [CARD_FILE, WEIGHTS_FILE])
def test_a_missing_file_is_named(checkpoint, tmp_path, file):
    for name in {CARD_FILE, WEIGHTS_FILE} - {file}:
        (tmp_path / name).write_bytes((checkpoint / name).read_bytes())
    with pytest.raises(CheckpointError, match=file):
        read_card(tmp_path)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="gone: expected a model folder"):
        read_card(tmp_path / "gone")


@pytest.mark.parametrize("content", [b"", b"[]", b"null", b"\xff\xfe", b"{", b"[" * 100_000])
def test_a_card_that_is_no_json_object_is_one_clear_line(checkpoint, tmp_path, content):
    (tmp_path / WEIGHTS_FILE).write_bytes((checkpoint / WEIGHTS_FILE).read_bytes())
    (tmp_path / CARD_FILE).write_bytes(content)
    with pytest.raises(CheckpointError, match=CARD_FILE):
        read_card(tmp_path)


def test_weights_of_another_model_are_noticed(checkpoint, tmp_path):
    tiny_checkpoint(tmp_path / "other", seed=1)
    (tmp_path / "other" / WEIGHTS_FILE).write_bytes((checkpoint / WEIGHTS_FILE).read_bytes())
    with pytest.raises(CheckpointError, match=f"{WEIGHTS_FILE}: expected the weights with fingerprint"):
        read_card(tmp_path / "other")


def test_the_fingerprint_names_what_decides_a_score_and_nothing_else(tmp_path):
    card, *_ = tiny_model()
    (tmp_path / WEIGHTS_FILE).write_bytes(b"weights")
    fingerprint = write_card(card, tmp_path).fingerprint

    def changed(**update):
        return write_card(card.model_copy(update=update), tmp_path).fingerprint

    moved = card.model.encoder.model_copy(update={"weights": "/elsewhere/w.safetensors"})
    assert changed(provenance=card.provenance.model_copy(update={"trained_at_s": 5.0})) == fingerprint
    assert changed(model=card.model.model_copy(update={"encoder": moved})) == fingerprint
    assert changed(normal_fps=12.5) != fingerprint
    assert changed(normal_scores={"gate": ((1.0,),)}) != fingerprint
    assert changed(unpaired_scores={"gate": ((1.0,),)}) != fingerprint
    assert changed(normal_common={"gate": ((1.0,),)}) == fingerprint
    assert changed(scenes=("yard", "gate")) != fingerprint
    assert changed(levels=card.levels[:2]) != fingerprint
    (tmp_path / WEIGHTS_FILE).write_bytes(b"weighty")
    assert changed() != fingerprint


VIEW = SceneReference(
    grid=(2, 3),
    edges=("AAECAwQF", "/wECAwQF"),
    own_agreement=0.9,
    turned_agreement=0.4,
    sharpness=0.5,
    light=165.11,
    telling=True,
)


def test_views_come_back_as_they_were_written_and_do_not_change_the_fingerprint(checkpoint, tmp_path):
    card, *_ = tiny_model()
    (tmp_path / WEIGHTS_FILE).write_bytes((checkpoint / WEIGHTS_FILE).read_bytes())
    write_card(card.model_copy(update={"views": {"gate": VIEW}}), tmp_path)
    read = read_card(tmp_path)
    assert read.views == {"gate": VIEW}
    assert read.fingerprint == read_card(checkpoint).fingerprint


def test_a_changed_view_is_noticed(checkpoint, tmp_path):
    card, *_ = tiny_model()
    (tmp_path / WEIGHTS_FILE).write_bytes((checkpoint / WEIGHTS_FILE).read_bytes())
    write_card(card.model_copy(update={"views": {"gate": VIEW}}), tmp_path)
    text = (tmp_path / CARD_FILE).read_text()
    (tmp_path / CARD_FILE).write_text(text.replace("165.11", "165.12"))
    with pytest.raises(CheckpointError, match=f"{CARD_FILE}: expected the checksum"):
        read_card(tmp_path)


def test_a_checkpoint_from_before_views_loads_and_keeps_its_fingerprint(checkpoint, tmp_path):
    (tmp_path / WEIGHTS_FILE).write_bytes((checkpoint / WEIGHTS_FILE).read_bytes())
    values = json.loads((checkpoint / CARD_FILE).read_text())
    del values["views"], values["unpaired_scores"], values["normal_common"], values["checksum"]
    text = json.dumps(values, indent=1, sort_keys=True) + "\n"
    values["checksum"] = hashlib.sha256(text.encode()).hexdigest()
    (tmp_path / CARD_FILE).write_text(json.dumps(values, indent=1, sort_keys=True) + "\n")
    read = read_card(tmp_path)
    assert read.views == read.unpaired_scores == read.normal_common == {}
    assert read.fingerprint == read_card(checkpoint).fingerprint


def test_a_checkpoint_from_before_blocks_loads_and_keeps_its_fingerprint(checkpoint, tmp_path):
    (tmp_path / WEIGHTS_FILE).write_bytes((checkpoint / WEIGHTS_FILE).read_bytes())
    values = read_values(checkpoint)
    del values["model"]["encoder"]["blocks"]
    values["provenance"]["losses"] = {"8": 1.5, "16": 1.25, "32": 1.0}
    values["fingerprint"] = fingerprint_of(tmp_path, values)
    write_values(tmp_path, values)
    read = read_card(tmp_path)
    assert (read.model.encoder.blocks, read.model.encoder.strides) == ((), (8, 16, 32))
    assert read.fingerprint == values["fingerprint"]


def test_another_format_says_train_again(checkpoint, tmp_path):
    (tmp_path / WEIGHTS_FILE).write_bytes((checkpoint / WEIGHTS_FILE).read_bytes())
    values = json.loads((checkpoint / CARD_FILE).read_text())
    values["format"] = 99
    del values["checksum"]
    text = json.dumps(values, indent=1, sort_keys=True) + "\n"
    values["checksum"] = hashlib.sha256(text.encode()).hexdigest()
    (tmp_path / CARD_FILE).write_text(json.dumps(values, indent=1, sort_keys=True) + "\n")
    with pytest.raises(CheckpointError, match="format: expected 1, got 99: train again"):
        read_card(tmp_path)


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        ({"encoder": {"name": "resnet18"}}, "model.encoder.name: expected 'resnet18'.*'test_efficientnet'"),
        ({"encoder": {"strides": [8, 16]}}, r"model.encoder.strides: expected \[8, 16\].*\[8, 16, 32\]"),
        ({"encoder": {"blocks": [3, 5]}}, r"model.encoder.blocks: expected \[3, 5\] .* \[\]"),
        ({"encoder": {"mean": [0.1, 0.1, 0.1]}}, r"model.encoder.mean: expected \[0.1, 0.1, 0.1\]"),
        ({"encoder": {"arguments": {"pad_type": "same"}}}, "model.encoder.arguments"),
        ({"image_size_px": [128, 128]}, r"model.image_size_px: expected \[128, 128\].*\[64, 96\]"),
        ({"flow": {"blocks": 8}}, "model.flow.blocks: expected 8 .* 2"),
        ({"score": {"top_fraction": 0.0}}, r"model.score.top_fraction: expected 0.0 .* 0.05"),
    ],
)
def test_a_setting_that_the_model_was_not_trained_with_is_named(checkpoint, stated, said):
    with pytest.raises(CheckpointError, match=said):
        check_matches(ModelSettings.model_validate(stated), read_card(checkpoint), checkpoint)


@pytest.mark.parametrize("weights", ["pretrained", "/moved/elsewhere.safetensors"])
def test_where_the_encoders_weights_came_from_does_not_matter(checkpoint, weights):
    stated = ModelSettings.model_validate({"encoder": {"name": "test_efficientnet", "weights": weights}})
    check_matches(stated, read_card(checkpoint), checkpoint)


def test_settings_left_to_their_defaults_state_nothing(checkpoint):
    check_matches(ModelSettings(), read_card(checkpoint), checkpoint)


def test_reading_a_card_does_not_import_torch():
    code = "import sys, pipeline.models.card; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_scenes_that_a_model_does_not_know_are_told_once_each_with_their_cameras():
    cameras = [CameraSettings.model_validate({"id": f"c{n}", "url": "x", "scene": f"s{n % 2}"}) for n in range(30)]
    assert unknown_scenes(cameras, ["s0", "s1"]) == []
    (line,) = unknown_scenes(cameras, ["s0", "gate"])
    assert line.startswith("camera c1, c3, c5, ")
    assert "c23 and 3 more: the model knows no scene 's1' (it knows s0, gate)" in line
