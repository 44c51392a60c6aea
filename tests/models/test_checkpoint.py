import os

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline.errors import CheckpointError
from pipeline.model_settings import ModelSettings
from pipeline.models.card import CARD_FILE, WEIGHTS_FILE, check_matches, read_card, write_card
from pipeline.models.checkpoint import (
    build_flows,
    check_writable,
    load_flows,
    read_checkpoint,
    save_checkpoint,
    stored_flows,
)
from pipeline.models.float16 import round_weights
from tests.models.tiny import SIZE_PX, tiny_checkpoint, tiny_model


def images(count=2):
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (count, *SIZE_PX, 3), dtype=np.uint8))


def read_back(folder):
    """Card, encoder and flows of a checkpoint."""
    card = read_card(folder)
    encoder, tensors = read_checkpoint(folder, card)
    return card, encoder, build_flows(folder, card, encoder.channels, tensors)


@pytest.mark.parametrize("flow", [{}, {"permutation": "hard"}, {"camera_embedding": 4}])
def test_a_loaded_model_computes_what_the_saved_one_did(tmp_path, flow):
    card, encoder, flows = tiny_model(**flow)
    flows.flow(0).whiten(torch.arange(32.0), torch.diag(torch.arange(1.0, 33.0)))
    written = save_checkpoint(tmp_path / "m", card, encoder, flows)
    read, encoder_again, flows_again = read_back(tmp_path / "m")
    assert read == written
    rows = flows.scene_rows(["yard", "unknown"])
    for level, (old, new) in enumerate(zip(encoder(images()), encoder_again(images()), strict=True)):
        assert torch.equal(old, new)
        expected = flows.log_likelihood_map(level, old, rows)
        assert torch.equal(flows_again.log_likelihood_map(level, new, rows), expected)
    assert not any(parameter.requires_grad for parameter in flows_again.parameters())


def test_the_same_model_gives_the_same_files(tmp_path):
    tiny_checkpoint(tmp_path / "a")
    tiny_checkpoint(tmp_path / "b")
    for file in (CARD_FILE, WEIGHTS_FILE):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_a_checkpoint_replaces_an_older_one_and_leaves_nothing_else_behind(tmp_path):
    first = tiny_checkpoint(tmp_path / "m", seed=0)
    second = tiny_checkpoint(tmp_path / "m", seed=1)
    assert first.fingerprint != second.fingerprint == read_card(tmp_path / "m").fingerprint
    assert [path.name for path in tmp_path.iterdir()] == ["m"]
    assert {path.name for path in (tmp_path / "m").iterdir()} == {CARD_FILE, WEIGHTS_FILE}


def test_what_a_process_left_that_was_killed_while_it_saved_goes_with_the_next_checkpoint(tmp_path):
    for name in (".m.part-x", ".m.part-x.old", ".m.part-lives", ".other.part-x"):
        (tmp_path / name).mkdir()
        (tmp_path / name / WEIGHTS_FILE).write_text("half of it")
        if name != ".m.part-lives":
            os.utime(tmp_path / name, (0, 0))
    tiny_checkpoint(tmp_path / "m")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".m.part-lives", ".other.part-x", "m"]


def test_a_folder_with_other_files_is_never_replaced(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(CheckpointError, match=r"got 'thesis.tex' in it"):
        tiny_checkpoint(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_in_the_models_place_is_named(tmp_path):
    (tmp_path / "m").write_text("")
    with pytest.raises(CheckpointError, match="expected a folder for the model, got a file"):
        check_writable(tmp_path / "m")


def test_a_checkpoint_of_another_encoder_is_named(tmp_path):
    tiny_checkpoint(tmp_path / "m")
    expected = ModelSettings.model_validate({"encoder": {"name": "resnet18"}})
    with pytest.raises(CheckpointError, match=r"m: model.encoder.name: expected 'resnet18'"):
        check_matches(expected, read_card(tmp_path / "m"), tmp_path / "m")


@pytest.mark.parametrize("fault", ["missing", "strange", "shape"])
def test_tensors_that_the_card_does_not_describe_are_refused(tmp_path, fault):
    card = tiny_checkpoint(tmp_path / "m")
    path = tmp_path / "m" / WEIGHTS_FILE
    tensors = load_file(path)
    name = "flows.1.blocks.0.subnet.0.weight"
    if fault == "missing":
        del tensors[name]
    elif fault == "strange":
        tensors["surprise"] = torch.zeros(1)
    else:
        tensors[name] = torch.zeros(3, 3)
    save_file(tensors, path)
    write_card(card, tmp_path / "m")  # digests that fit: only the tensors are wrong
    with pytest.raises(
        CheckpointError, match=f"{WEIGHTS_FILE}: expected the tensors that {CARD_FILE} describes"
    ) as caught:
        read_back(tmp_path / "m")
    assert "\n" not in str(caught.value)


def test_a_card_whose_encoder_this_timm_does_not_know_is_named(tmp_path):
    card = tiny_checkpoint(tmp_path / "m")
    encoder = card.model.encoder.model_copy(update={"name": "model_of_the_future"})
    write_card(card.model_copy(update={"model": card.model.model_copy(update={"encoder": encoder})}), tmp_path / "m")
    with pytest.raises(CheckpointError, match=r"model\.json: .*'model_of_the_future'"):
        read_back(tmp_path / "m")


def test_a_card_that_names_blocks_and_not_their_strides_is_refused(tmp_path):
    card, encoder, flows = tiny_model()
    named = encoder.settings.model_copy(update={"blocks": (2, 3, 4), "strides": ()})
    card = card.model_copy(update={"model": card.model.model_copy(update={"encoder": named})})
    save_checkpoint(tmp_path / "m", card, encoder, flows)
    with pytest.raises(CheckpointError, match=r"strides: expected \[8, 16, 32\], as its blocks have, got \[\]"):
        read_checkpoint(tmp_path / "m", read_card(tmp_path / "m"))


def test_flows_without_their_embedding_are_refused():
    _, _, flows = tiny_model(camera_embedding=3)
    stored = dict(stored_flows(flows))
    del stored["embedding.vectors"]
    with pytest.raises(RuntimeError, match="vectors"):
        load_flows(flows, stored)


def test_another_user_can_read_a_checkpoint_though_commands_keep_what_they_write_to_themselves(tmp_path):
    before = os.umask(0o077)
    try:
        tiny_checkpoint(tmp_path / "m")
    finally:
        os.umask(before)
    for path in (tmp_path / "m" / WEIGHTS_FILE, tmp_path / "m" / CARD_FILE):
        assert path.stat().st_mode & 0o044 == 0o044


def test_a_rounded_model_takes_half_the_room_and_scores_as_it_did_in_memory(tmp_path):
    card, encoder, flows = tiny_model(blocks=4)
    save_checkpoint(tmp_path / "exact", card, encoder, flows)
    round_weights(encoder)
    for level in range(len(encoder.channels)):
        flows.flow(level).round_weights()
    save_checkpoint(tmp_path / "rounded", card, encoder, flows)
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("exact", "rounded")]
    assert sizes[1] < 0.6 * sizes[0]

    _, loaded_encoder, loaded_flows = read_back(tmp_path / "rounded")
    rows = flows.scene_rows(["gate", "yard"])
    with torch.no_grad():
        for level, (ours, theirs) in enumerate(zip(encoder(images()), loaded_encoder(images()), strict=True)):
            assert torch.equal(ours, theirs)
            got = loaded_flows.log_likelihood_map(level, theirs, rows)
            assert torch.equal(got, flows.log_likelihood_map(level, ours, rows))
