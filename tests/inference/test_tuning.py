import json
import re

import pytest
import torch

from pipeline.config import RuntimeSettings
from pipeline.inference import tuning
from pipeline.inference.tuning import Tuning, can_compile, choose_tuning

CPU = torch.device("cpu")


@pytest.mark.parametrize(("name", "precision"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)])
def test_what_the_settings_say_is_done(name, precision):
    settings = RuntimeSettings(precision=name, compile=False)
    assert choose_tuning(settings, CPU) == Tuning(precision, compiled=False)
    assert choose_tuning(RuntimeSettings(precision=name, compile=True), CPU).compiled


@pytest.mark.parametrize(("gain", "expected"), [(2.0, torch.bfloat16), (1.1, torch.float32), (0.1, torch.float32)])
def test_auto_takes_bfloat16_only_where_it_is_clearly_faster(gain, expected, monkeypatch):
    rates = {"float32": 1e11, "bfloat16": gain * 1e11}
    monkeypatch.setattr(tuning, "_products_per_s", lambda device: rates)
    assert choose_tuning(RuntimeSettings(compile=False), CPU).precision == expected


def test_auto_measures_this_machine_and_says_what_it_found():
    chosen = choose_tuning(RuntimeSettings(compile=False), CPU)
    assert chosen.precision in {torch.float32, torch.bfloat16}
    expected = r"b?float(32|16), not compiled \(matrix products: \d+ GFLOP/s in float32, \d+ GFLOP/s in bfloat16\)"
    assert re.fullmatch(expected, str(chosen))


@pytest.mark.parametrize("asked", ["auto", "bfloat16"])
def test_a_method_without_flows_runs_in_float32_and_nothing_is_measured_for_it(asked):
    settings = RuntimeSettings(precision=asked, compile=False)
    assert str(choose_tuning(settings, CPU, "padim")) == "float32, not compiled"


def test_a_cpu_without_a_compiler_runs_the_model_as_it_stands(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    assert not can_compile(CPU)
    assert not choose_tuning(RuntimeSettings(precision="float32"), CPU).compiled
    compiler = tmp_path / "g++"
    compiler.write_text("#!/bin/sh\n", encoding="ascii")
    compiler.chmod(0o755)
    assert can_compile(CPU)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_what_one_detector_found_is_told_to_another_in_plain_values(precision):
    found = Tuning(precision, compiled=True, why="measured")
    told = json.loads(json.dumps(found.as_json()))
    assert (Tuning.of_json(told), str(Tuning.of_json(told))) == (found, str(found))
