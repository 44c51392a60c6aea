import itertools
import json
import os
import re
import stat
import time

import pytest
import torch

from pipeline.config import RuntimeSettings
from pipeline.inference import tuning
from pipeline.inference.tuning import Tuning, can_compile, choose_tuning
from pipeline.private_folder import cache_folder

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


def test_a_busy_machine_is_judged_by_its_best_moment(monkeypatch):
    """Others slow most of the products in float32 down; undisturbed, bfloat16 is not worth its rounding."""
    reads = itertools.count(2)  # in the first round, which is not counted, only beginnings are read off the clock
    clock_s = [0.0]

    def read_clock():
        round_number, of_round = divmod(next(reads), 4)
        if of_round == 1:  # a product in float32 has ended
            clock_s[0] += 1e-3 if round_number == 7 else 10e-3
        elif of_round == 3:  # one in bfloat16
            clock_s[0] += 0.9e-3
        return clock_s[0]

    monkeypatch.setattr(time, "perf_counter", read_clock)
    chosen = choose_tuning(RuntimeSettings(compile=False), CPU)
    assert str(chosen) == "float32, not compiled (matrix products: 508 GFLOP/s in float32, 564 GFLOP/s in bfloat16)"


@pytest.mark.parametrize("mode", [0o777, 0o770])
def test_no_code_is_loaded_from_where_other_users_may_put_some(monkeypatch, tmp_path, mode):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "shared"))
    made = cache_folder("packages")
    assert made == tmp_path / "shared" / "cflow-stream" / "packages"
    for folder in (made, made.parent):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        folder.chmod(mode)
        with pytest.raises(PermissionError, match="can be written into by other users"):
            cache_folder("packages")
        folder.chmod(0o700)
    monkeypatch.setattr(os, "geteuid", lambda: made.stat().st_uid + 1)
    with pytest.raises(PermissionError, match="cflow-stream belongs to another user"):
        cache_folder("packages")


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
