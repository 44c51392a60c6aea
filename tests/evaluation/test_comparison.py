import io
import json
from fractions import Fraction

import numpy as np
import pytest
import torch
from rich.console import Console

from pipeline.config import RuntimeSettings
from pipeline.console.comparison import comparison_table
from pipeline.evaluation import speed as speed_module
from pipeline.evaluation.comparison import (
    COLUMNS,
    Comparison,
    MethodResult,
    comparison_markdown,
    comparison_rows,
    write_comparison,
)
from pipeline.evaluation.speed import measure_memory, measure_speed, peak_memory_mb
from pipeline.models.card import read_card
from pipeline.types import FrameBatch, FrameHeader
from tests.models.tiny import SIZE_PX, tiny_checkpoint


def result(method="cflow", **changes) -> MethodResult:
    values = {
        "method": method, "fingerprint": "ab" * 32, "frame_auroc": 0.86, "frame_auroc_causal": 0.88,
        "frame_auroc_macro": 0.95, "pixel_auroc": 0.97, "aupro": 0.86, "normal_above_threshold": 0.123,
        "frames_per_s": 40.0, "post_frames_per_s": 123.4, "model_mb": 27.5, "encoder_mb": 7.0,
        "peak_memory_mb": 812.3, "peak_gpu_mb": None, "train_s": 1234.5, "train_peak_memory_mb": 1e3,
    }  # fmt: skip
    return MethodResult(**{**values, **changes})


def comparison(*results: MethodResult) -> Comparison:
    frame = {"random": 0.5, "time_in_clip": 0.62}
    floors = {"frame_auroc": frame, "frame_auroc_causal": frame, "pixel_auroc": {"random_padded": 0.68}}
    return Comparison("ped2", "stc", "mobilenetv2_100", (256, 384), 2190, 16, 2, "cpu", floors, results)


def test_every_method_is_a_row_and_the_floors_come_last():
    rows = comparison_rows(comparison(result(), result("differnet", pixel_auroc=None, frames_per_s=0.1234)))
    assert [row[0] for row in rows] == ["cflow", "differnet", "floor (labels)"]
    assert all(len(row) == len(COLUMNS) for row in rows)
    shares = ("0.8600", "0.8800", "0.9700", "0.8600", "12.3 %")
    assert rows[0][1:] == (*shares, "40", "123", "27.5", "1.45", "812", "1,234")
    assert rows[1][3] == "–"
    assert rows[1][6] == "0.123"
    assert rows[2][1:4] == ("0.6200", "0.6200", "–")  # random_padded is no floor of ours


def test_the_markdown_says_what_it_was_measured_on():
    text = comparison_markdown(comparison(result()))
    assert "mobilenetv2_100 at 256 x 384, 2,190 training frames" in text
    assert "batches of 16, 2 CPU threads" in text
    assert "DifferNet" not in text
    assert "DifferNet scores whole frames" in comparison_markdown(comparison(result("differnet")))
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in table}) == 1


def test_the_files_are_written_whole(tmp_path):
    made = comparison(result(), result("padim", frames_per_s=4.0, model_mb=900.0, frame_auroc=None))
    files = write_comparison(made, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(path.name for path in files)
    read = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert read["results"][1]["frame_auroc"] is None
    assert read["image_size_px"] == [256, 384]
    assert (tmp_path / "out" / "comparison.png").read_bytes().startswith(b"\x89PNG")


RUNTIME = RuntimeSettings(precision="float32", compile=False, batch_frames=3)


def test_a_terminal_of_120_columns_shows_the_table_whole():
    shown = Console(width=120, file=io.StringIO(), record=True)
    shown.print(comparison_table(comparison(result("unconditional", train_s=98765.0, model_mb=1234.5))))
    text = shown.export_text()
    assert "AUROC" in text and "…" not in text


@pytest.fixture
def batch():
    images = np.random.default_rng(0).integers(0, 256, (3, *SIZE_PX, 3), dtype=np.uint8)
    headers = tuple(FrameHeader("gate", 0, index, index, Fraction(1, 25), 0.0) for index in range(3))
    return FrameBatch.unpaired(headers, images)


def recorded(calls, name, measure):
    def call(engine, *given):
        calls.append((name, engine.card.fingerprint))
        return measure(engine, *given)

    return call


def test_models_are_timed_in_turn_with_and_without_the_encoder(tmp_path, batch, monkeypatch):
    tiny_checkpoint(tmp_path / "a")
    tiny_checkpoint(tmp_path / "b", seed=1)
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    timed = []
    for step in ("_whole_s", "_post_s"):
        monkeypatch.setattr(speed_module, step, recorded(timed, step, getattr(speed_module, step)))
    found = measure_speed(
        {"a": tmp_path / "a", "b": tmp_path / "b"}, batch, ["gate"] * 3, RUNTIME, device="cpu", threads=1, seconds=0.0
    )
    assert set(found) == {"a", "b"}
    for speed in found.values():
        assert speed.rounds == 3
        assert min(speed.post_frames_per_s, speed.frames_per_s) > 0.0
    models = [read_card(tmp_path / name).fingerprint for name in ("a", "b")]
    assert timed == [(step, model) for model in models for step in ("_whole_s", "_post_s")] * 3


def test_memory_is_the_most_that_was_ever_held(tmp_path, batch, monkeypatch):
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    tiny_checkpoint(tmp_path / "a")
    peak, gpu = measure_memory(tmp_path / "a", batch, ["gate"] * 3, RUNTIME, device="cpu", threads=1)
    assert gpu is None
    assert peak > 100.0
    block = np.ones(200_000_000, np.uint8)
    del block
    assert peak_memory_mb() >= 200.0
