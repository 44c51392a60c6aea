"""Workers on two nodes, each with a disk of its own: one of them extracts a clip's features, and both know of it."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.config import PhotometricSettings
from pipeline.datasets.base import Clip
from pipeline.errors import VideoError
from pipeline.methods import method_of
from pipeline.models.anomaly_model import StoredModel
from pipeline.models.checkpoint import stored_flows
from pipeline.models.encoder import build_encoder
from pipeline.training.features import pyramid_spec
from pipeline.training.holdout import Split
from pipeline.training.measured_parts import shown_once
from pipeline.training.read_out import measure_read_out
from pipeline.training.shared_features import pictures, share_features
from pipeline.training.workers import ALONE
from tests.models.tiny import ENCODER, SIZE_PX, tiny_model, tiny_settings
from tests.training.footage import as_parts, make_config, make_dataset
from tests.training.groups import in_group

TRAINING = make_config(augmentation=PhotometricSettings(variants=1)).training


@pytest.fixture(scope="module")
def footage(tmp_path_factory):
    """Clips of two scenes, and one that nobody can read."""
    folder = tmp_path_factory.mktemp("footage")
    dataset = make_dataset(folder, {"gate": (7, 8, 9), "yard": (8, 6)})
    (folder / "torn.mp4").write_bytes(b"no video")
    return (*dataset.train[:2], Clip("torn", "gate", str(folder / "torn.mp4"), 5), *dataset.train[2:])


@pytest.fixture(scope="module")
def encoder():
    return build_encoder(ENCODER)


def shared(clips, encoder, folder, workers, passed_over=None, progress=lambda done, total: None):
    return share_features(
        clips, pyramid_spec(tiny_settings(), encoder), SIZE_PX, gap_s=0.1, training=TRAINING, folder=folder, key="k",
        progress=progress, passed_over=[].append if passed_over is None else passed_over.append, workers=workers,
    )  # fmt: skip


def extracted(folder):
    return {path.stem for path in Path(folder).rglob("clip-*.json")}


def test_each_clip_is_extracted_by_one_worker_and_known_to_all(footage, encoder, tmp_path):
    alone = shared(footage, encoder, tmp_path / "alone", ALONE)
    told = []
    found = in_group(2, lambda workers: shared(footage, encoder, tmp_path / str(workers.rank), workers, told))
    assert len(told) == 1
    assert "torn.mp4" in told[0]
    assert extracted(tmp_path / "0").isdisjoint(extracted(tmp_path / "1"))
    assert extracted(tmp_path / "0") | extracted(tmp_path / "1") == extracted(tmp_path / "alone")
    for first, second, expected in zip(*found, alone, strict=True):
        assert first.holders == second.holders
        assert (first.clip, first.fps, len(first)) == (second.clip, second.fps, len(second))
        assert (first.clip, first.fps, len(first)) == (expected.clip, expected.fps, len(expected))
        assert np.array_equal(first.gaps_s, expected.gaps_s)
        assert np.array_equal(second.gaps_s, expected.gaps_s)
        (holder,) = first.holders
        here, elsewhere = (first, second)[holder], (first, second)[1 - holder]
        for of_here, of_elsewhere, of_alone in zip(
            here.variants(), elsewhere.variants(), expected.variants(), strict=True
        ):
            for level, nowhere, wanted in zip(of_here.levels, of_elsewhere.levels, of_alone.levels, strict=True):
                assert np.array_equal(level, wanted)
                assert nowhere.shape == wanted.shape
                assert np.isnan(nowhere).all()
        assert elsewhere.speeds.shape == expected.speeds.shape
    frames = [sum(len(clip) for clip in found[0] if clip.holders == (rank,)) for rank in (0, 1)]
    assert max(frames) - min(frames) <= 9  # the longest clip


def test_features_that_are_there_stay_where_they_are_and_those_of_a_lost_node_are_made_anew(footage, encoder, tmp_path):
    in_group(2, lambda workers: shared(footage, encoder, tmp_path / str(workers.rank), workers))
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "0").rglob("clip-*.f16")}
    lost = extracted(tmp_path / "1")
    shutil.rmtree(tmp_path / "1")
    found = in_group(2, lambda workers: shared(footage, encoder, tmp_path / str(1 - workers.rank), workers))
    assert len(found[0]) == 5
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    anew = (extracted(tmp_path / "0") | extracted(tmp_path / "1")) - {path.name[:10] for path in kept}
    assert anew == lost


def test_footage_that_lies_on_one_node_alone_is_extracted_there(footage, encoder, tmp_path, monkeypatch):
    """Threads have one disk: what the second of them is asked about is hidden from it."""
    here = footage[0].url
    exists = Path.exists

    def of_worker(path, **options):
        import threading

        return exists(path, **options) and not (str(path) == here and threading.current_thread().name.endswith("-0"))

    def of(workers):
        import threading

        threading.current_thread().name = f"worker-{workers.rank}"
        return shared(footage, encoder, tmp_path / str(workers.rank), workers)

    monkeypatch.setattr(Path, "exists", of_worker)
    assert in_group(2, of)[0][0].holders == (1,)


def test_one_folder_for_all_is_extracted_into_once_and_seen_by_all(footage, encoder, tmp_path):
    first, second = in_group(2, lambda workers: shared(footage, encoder, tmp_path, workers))
    assert all(clip.holders == (0, 1) for clip in first)
    for one, other in zip(first, second, strict=True):
        assert np.array_equal(one.levels[0], other.levels[0])


def test_the_read_out_is_what_one_worker_measures(footage, encoder, tmp_path):
    card, _, flows = tiny_model()
    stored = StoredModel(tmp_path, card, encoder.channels, stored_flows(flows))
    told = []

    def measure(folder, workers):
        clips = shared(footage, encoder, folder, workers)
        method = method_of("cflow").load_builder()(stored, torch.float32).requires_grad_(False)
        heldout = as_parts(*(range(len(clip) - 2, len(clip)) for clip in clips))
        learned = as_parts(*(range(len(clip) - 2) for clip in clips))
        shown = shown_once(clips, Split(tuple(learned), tuple(heldout)))
        found = measure_read_out(
            card.model, TRAINING, [method], encoder.for_inference(), clips, shown, torch.device("cpu"),
            lambda done, total: told.append((workers.rank, done, total)), workers=workers,
        )  # fmt: skip
        return found, pictures(clips, workers)

    alone, of_scenes = measure(tmp_path / "alone", ALONE)
    told.clear()
    (found, seen), others = in_group(2, lambda workers: measure(tmp_path / str(workers.rank), workers))
    assert others == (None, None)
    assert found.normal_scores == alone.normal_scores
    assert found.unpaired_scores == alone.unpaired_scores
    assert found.normal_common == alone.normal_common
    assert found.constants == alone.constants
    torch.testing.assert_close(found.speed_scales, alone.speed_scales)
    assert all(np.array_equal(one, other) for one, other in zip(seen, of_scenes, strict=True))
    assert {rank for rank, _, _ in told} == {0, 1}


def test_footage_that_is_gone_when_it_is_measured_ends_the_training_of_all(footage, encoder, tmp_path):
    card, _, flows = tiny_model()
    stored = StoredModel(tmp_path, card, encoder.channels, stored_flows(flows))
    clips = [
        Clip(clip.name, clip.scene, str(shutil.copy(clip.url, tmp_path / Path(clip.url).name)), clip.frame_count)
        for clip in footage
    ]

    def measure(workers):
        known = shared(clips, encoder, tmp_path / "features", workers)
        Path(clips[0].url).unlink(missing_ok=True)
        method = method_of("cflow").load_builder()(stored, torch.float32).requires_grad_(False)
        shown = shown_once(known, Split((), tuple(as_parts(*(range(len(clip)) for clip in known)))))
        with pytest.raises(VideoError) as caught:
            measure_read_out(
                card.model, TRAINING, [method], encoder.for_inference(), known, shown, torch.device("cpu"),
                lambda done, total: None, workers=workers,
            )  # fmt: skip
        return str(caught.value)

    first, second = in_group(2, measure)
    assert first == second
    assert clips[0].url in first
