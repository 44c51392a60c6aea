import json
import logging
import re
import time
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from pipeline.errors import ConfigError, WeightsError
from pipeline.model_settings import EncoderSettings
from pipeline.models.encoder import build_encoder
from tests.models.tiny import ENCODER
from tests.shared import shared_path

NAME = ENCODER.name
VIT = EncoderSettings(name="test_vit", weights="random", blocks=(1, 4))


def frames(count, size_px=(64, 96), seed=0):
    values = np.random.default_rng(seed).integers(0, 256, (count, *size_px, 3), dtype=np.uint8)
    return torch.from_numpy(values)


def timm_weights(path: Path, name: str = NAME, **arguments) -> Path:
    """Weights of a whole timm classifier, drawn from another seed than the encoder's own."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(99)
        model = timm.create_model(name, pretrained=False, **arguments)
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, path)
    return path


def test_levels_are_found_by_their_strides_and_channels_asked_of_the_model():
    encoder = build_encoder(ENCODER.model_copy(update={"strides": (4, 32)}))
    assert (encoder.strides, encoder.channels) == ((4, 32), (24, 64))
    assert [tuple(level.shape) for level in encoder(frames(2))] == [(2, 24, 16, 24), (2, 64, 2, 3)]


# MambaOut keeps channels last, as Swin does; of DLA timm gives the second to the sixth map unless asked.
@pytest.mark.parametrize("name", ["test_resnet", "test_convnext", "mobilenetv3_small_050", "test_mambaout", "dla46_c"])
def test_models_of_other_families_give_their_pyramid(name):
    encoder = build_encoder(EncoderSettings(name=name, weights="random", strides=(8, 16, 32)))
    for level, channels, stride in zip(encoder(frames(1, (64, 64))), encoder.channels, (8, 16, 32), strict=True):
        assert tuple(level.shape) == (1, channels, 64 // stride, 64 // stride)


def test_a_stride_that_the_model_does_not_have_is_answered_with_those_it_has():
    with pytest.raises(ConfigError, match=r"strides: test_efficientnet has .*\[2, 4, 8, 16, 32\], got \[8, 64\]"):
        build_encoder(ENCODER.model_copy(update={"strides": (8, 64)}))


def test_blocks_of_a_vision_transformer_are_levels_of_one_stride():
    encoder = build_encoder(VIT)
    assert (encoder.strides, encoder.channels) == ((16, 16), (64, 64))
    assert encoder.settings.level_names == ("block 1", "block 4")
    images = frames(2)
    found = encoder(images)
    assert [tuple(level.shape) for level in found] == [(2, 64, 4, 6)] * 2
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(VIT.seed)
        whole = timm.create_model(VIT.name, pretrained=False, features_only=True, out_indices=[1, 4])
    pixels = (images.permute(0, 3, 1, 2).float() - encoder.mean) / encoder.std
    for level, expected in zip(found, whole(pixels), strict=True):
        assert torch.equal(level, expected)


def test_stages_of_a_pyramid_can_be_named_by_number_too():
    by_number = build_encoder(EncoderSettings(name=NAME, weights="random", blocks=(2, 4)))
    by_stride = build_encoder(ENCODER.model_copy(update={"strides": (8, 32)}))
    assert by_number.strides == (8, 32)
    for one, other in zip(by_number(frames(1)), by_stride(frames(1)), strict=True):
        assert torch.equal(one, other)


def test_the_stride_of_a_vision_transformer_is_its_last_block():
    by_stride = build_encoder(EncoderSettings(name=VIT.name, weights="random", strides=(16,)))
    last = build_encoder(EncoderSettings(name=VIT.name, weights="random", blocks=(5,)))
    assert torch.equal(by_stride(frames(1))[0], last(frames(1))[0])


def test_a_transformer_made_for_one_size_takes_images_of_another():
    asked = EncoderSettings(name="vit_tiny_patch16_224", weights="random", blocks=(1,), arguments={"depth": 3})
    encoder = build_encoder(asked)
    encoder.check_size((64, 96))
    assert encoder(frames(1))[0].shape == (1, 192, 4, 6)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"blocks": (3, 6)}, r"encoder\.blocks: test_vit has feature maps 0 to 5, got \[3, 6\]"),
        (
            {"blocks": (3,), "strides": (8,)},
            r"blocks \[3\] of test_vit have strides \[16\], got \[8\]; state blocks",
        ),
        ({"strides": (8, 16)}, r"strides \[16\], got \[8, 16\]; name levels by model\.encoder\.blocks, 0 to 5"),
    ],
)
def test_levels_that_a_transformer_does_not_have_are_answered_with_those_it_has(changes, said):
    with pytest.raises(ConfigError, match=said):
        build_encoder(EncoderSettings(name=VIT.name, weights="random", **changes))


def test_a_size_that_a_model_does_not_take_is_answered_with_two_ways_out():
    asked = EncoderSettings(name="test_vit_relpos", weights="random", blocks=(1,))
    with pytest.raises(ConfigError, match=r"\(Input height .* may help, else set \[160, 160\], as") as caught:
        build_encoder(asked).check_size((64, 96))
    helps = re.search(r"arguments: \{img_size: (\[64, 96\])\}", str(caught.value))
    assert helps
    told = asked.model_copy(update={"arguments": {"img_size": json.loads(helps[1])}})
    build_encoder(told).check_size((64, 96))


def test_a_size_that_does_not_fit_the_patches_is_answered_with_one_that_does():
    encoder = build_encoder(VIT)
    with pytest.raises(ConfigError, match=r"_px: .* coarsest stride 16, such as \[256, 384\], got \[250, 378\]"):
        encoder.check_size((250, 378))


def test_a_model_that_timm_does_not_know_is_answered_with_its_neighbours():
    with pytest.raises(ConfigError, match=r"model.encoder.name: .*resnet18.*, got 'resnet_18x'"):
        build_encoder(EncoderSettings(name="resnet_18x", weights="random"))


def test_an_argument_that_timm_refuses_is_named():
    with pytest.raises(ConfigError, match="no_such_argument"):
        build_encoder(ENCODER.model_copy(update={"arguments": {"no_such_argument": 1}}))


@pytest.mark.parametrize("argument", ["checkpoint_path", "pretrained", "pretrained_cfg_overlay", "out_indices"])
def test_arguments_that_could_load_a_pickle_or_change_the_pyramid_are_refused(argument):
    with pytest.raises(ConfigError, match=f"arguments.{argument}"):
        build_encoder(ENCODER.model_copy(update={"arguments": {argument: "x.pth"}}))


def test_random_weights_follow_from_the_seed_and_say_so_loudly(caplog):
    with caplog.at_level(logging.WARNING):
        first, again = build_encoder(ENCODER), build_encoder(ENCODER)
    assert "RANDOM WEIGHTS" in caplog.text
    other = build_encoder(ENCODER.model_copy(update={"seed": 1}))
    image = frames(1)
    assert torch.equal(first(image)[0], again(image)[0])
    assert not torch.equal(first(image)[0], other(image)[0])


def test_building_leaves_torchs_random_state_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    build_encoder(ENCODER)
    assert torch.equal(torch.rand(3), expected)


def test_mean_and_std_come_from_timm_unless_overridden():
    config = timm.get_pretrained_cfg(NAME)
    assert config is not None
    resolved = build_encoder(ENCODER).settings
    assert (resolved.mean, resolved.std) == (tuple(config.mean), tuple(config.std))
    own = build_encoder(ENCODER.model_copy(update={"mean": (0.1, 0.2, 0.3)}))
    assert own.settings.mean == (0.1, 0.2, 0.3)
    assert not torch.allclose(own(frames(1))[0], build_encoder(ENCODER)(frames(1))[0])


def test_pixels_are_normalised_as_timm_does():
    encoder = build_encoder(ENCODER)
    image = frames(1)
    mean, std = torch.tensor(encoder.settings.mean), torch.tensor(encoder.settings.std)
    pixels = ((image / 255.0 - mean) / std).permute(0, 3, 1, 2).contiguous()
    for got, expected in zip(encoder(image), encoder.backbone(pixels), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_a_frames_features_do_not_depend_on_its_batch():
    encoder = build_encoder(ENCODER)
    images = frames(8)
    together = encoder(images)
    for number in range(8):
        for level, alone in enumerate(encoder(images[number : number + 1])):
            torch.testing.assert_close(together[level][number : number + 1], alone, rtol=1e-5, atol=1e-5)


def test_the_encoder_stays_frozen_and_in_evaluation_mode():
    encoder = build_encoder(ENCODER)
    encoder.train()
    assert not any(module.training for module in encoder.modules())
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    encoder(frames(4))
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.state_dict().items())


@pytest.mark.parametrize(("name", "blocks"), [(NAME, ()), ("test_convnext", ()), (VIT.name, VIT.blocks)])
def test_a_safetensors_file_of_the_whole_classifier_fills_the_levels(tmp_path, name, blocks):
    path = timm_weights(tmp_path / "w.safetensors", name)
    encoder = build_encoder(EncoderSettings(name=name, weights=str(path), blocks=blocks))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(99)
        # timm draws the same weights from the same seed, so its own pyramid is the reference.
        whole = timm.create_model(name, pretrained=False)
    reference = {key.replace(".", "_"): value for key, value in whole.state_dict().items()}
    for key, value in encoder.backbone.state_dict().items():
        assert torch.equal(value, reference[key.removeprefix("model.").replace(".", "_")])


def test_a_missing_weights_file_is_named(tmp_path):
    with pytest.raises(WeightsError, match=r"gone\.safetensors: .*no such file"):
        build_encoder(ENCODER.model_copy(update={"weights": str(tmp_path / "gone.safetensors")}))


def test_a_damaged_weights_file_is_named(tmp_path):
    path = timm_weights(tmp_path / "w.safetensors")
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(WeightsError, match=r"w\.safetensors: expected a readable safetensors file"):
        build_encoder(ENCODER.model_copy(update={"weights": str(path)}))


def test_weights_of_another_model_are_refused(tmp_path):
    path = timm_weights(tmp_path / "w.safetensors", "test_resnet")
    with pytest.raises(WeightsError, match=r"timm's test_efficientnet, got \d+ missing .* unknown"):
        build_encoder(ENCODER.model_copy(update={"weights": str(path)}))


def test_weights_of_another_shape_are_refused(tmp_path):
    path = timm_weights(tmp_path / "w.safetensors")
    stored = load_file(path)
    save_file({**stored, "conv_stem.weight": torch.zeros(8, 3, 3, 3)}, path)
    with pytest.raises(WeightsError, match=r"conv_stem.weight: expected shape \(24, 3, 3, 3\) .* got \(8, 3, 3, 3\)"):
        build_encoder(ENCODER.model_copy(update={"weights": str(path)}))


@pytest.mark.parametrize("suffix", [".pth", ".bin", ".pt", ""])
def test_a_pickle_is_never_opened(tmp_path, suffix):
    path = tmp_path / f"weights{suffix}"
    torch.save({"a": torch.zeros(1)}, path)
    with pytest.raises(WeightsError, match="nothing is unpickled"):
        build_encoder(ENCODER.model_copy(update={"weights": str(path)}))


def test_a_hub_out_of_reach_is_one_sentence_with_two_ways_out_and_quick(monkeypatch, tmp_path):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    started = time.monotonic()
    with pytest.raises(WeightsError) as caught:
        build_encoder(ENCODER.model_copy(update={"weights": "pretrained"}))
    assert time.monotonic() - started < 30.0
    said = str(caught.value)
    assert "safetensors file" in said
    assert "'random'" in said
    assert "\n" not in said


def test_weights_in_the_hubs_cache_need_no_hub(monkeypatch, tmp_path):
    config = timm.get_pretrained_cfg(NAME)
    assert config is not None
    repository = tmp_path / f"models--{config.hf_hub_id.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("a" * 40)
    snapshot = repository / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    path = timm_weights(snapshot / "model.safetensors")
    monkeypatch.setattr(huggingface_hub.file_download.constants, "HF_HUB_CACHE", str(tmp_path))
    encoder = build_encoder(ENCODER.model_copy(update={"weights": "pretrained"}))
    from_file = build_encoder(ENCODER.model_copy(update={"weights": str(path)}))
    assert torch.equal(encoder(frames(1))[0], from_file(frames(1))[0])


def test_the_shared_mobilenet_weights_load_strictly():
    path = shared_path("weights/mobilenetv2_100_in1k.safetensors")
    encoder = build_encoder(
        EncoderSettings(weights=str(path), mean=(0.5,) * 3, std=(0.5,) * 3, arguments={"pad_type": "same"})
    )
    assert encoder.channels == (32, 96, 320)
    assert all(torch.isfinite(level).all() for level in encoder(frames(1)))
