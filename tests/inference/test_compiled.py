"""The model as torch compiles it, with the machine's C++ compiler, against the model as it stands."""

import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.baselines.differnet import Differnet
from pipeline.config import RuntimeSettings
from pipeline.errors import PackageError
from pipeline.inference import packages
from pipeline.inference.engine import Engine
from pipeline.inference.tuning import Tuning, can_compile
from pipeline.model_settings import ModelSettings
from pipeline.models.card import read_card
from pipeline.models.checkpoint import save_checkpoint
from pipeline.models.encoder import build_encoder
from pipeline.private_folder import cache_folder
from pipeline.types import FrameBatch
from tests.inference.test_engine import batch, scenes_of
from tests.models.tiny import ENCODER, SIZE_PX, tiny_checkpoint, tiny_model
from tests.test_child import HANGS, Lifeline

pytestmark = [
    pytest.mark.compiler,
    pytest.mark.skipif(not can_compile(torch.device("cpu")), reason="no C++ compiler on this machine"),
]

FRAMES = 7
SETTINGS = {"batch_frames": FRAMES, "compile": True}


@pytest.fixture(scope="module")
def expected(folder):
    return Engine.load(folder).predict(batch(range(FRAMES)), scenes_of(range(FRAMES)))


@pytest.fixture(scope="module")
def finest(tmp_path_factory):
    """The same model, whose score is read off the finest level: the map that is shown is not the one that is scored."""
    made = tmp_path_factory.mktemp("finest") / "m"
    card, encoder, flows = tiny_model(camera_embedding=4)
    score = card.model.score.model_copy(update={"levels": "finest"})
    model = card.model.model_copy(update={"score": score})
    save_checkpoint(made, card.model_copy(update={"model": model}), encoder, flows)
    return made


@pytest.fixture(scope="module", params=["float32", "bfloat16"])
def both(request, folder, finest):
    """A model compiled, and as it stands."""
    of_model = folder if request.param == "float32" else finest
    engine = Engine.ready(of_model, RuntimeSettings(precision=request.param, **SETTINGS))
    assert engine.tuning == Tuning(getattr(torch, request.param), compiled=True)
    return engine, Engine.load(of_model)


@pytest.fixture(scope="module")
def compiled(both):
    return both[0]


def test_scores_are_those_of_the_model_as_it_stands(both):
    compiled, as_it_stands = both
    exact = compiled.tuning.precision == torch.float32
    got, expected = (one.predict(batch(range(FRAMES)), scenes_of(range(FRAMES))) for one in both)
    assert compiled.card == as_it_stands.card
    for one, other in zip(got, expected, strict=True):
        assert one.anomaly_score == pytest.approx(other.anomaly_score, rel=1e-4 if exact else 0.05)
        tolerance = 2e-3 if exact else 0.15
        np.testing.assert_allclose(one.anomaly_map, other.anomaly_map, rtol=tolerance, atol=tolerance)


def test_a_frames_score_does_not_depend_on_its_batch(compiled):
    together = compiled.predict(batch(range(FRAMES)), scenes_of(range(FRAMES)))
    for size in range(1, FRAMES):
        numbers = range(size)
        for one, other in zip(compiled.predict(batch(numbers), scenes_of(numbers)), together[:size], strict=True):
            assert one.anomaly_score == pytest.approx(other.anomaly_score, rel=1e-4)


BEFORE_A_WALL = """
import ctypes, mmap, sys
from pathlib import Path

import torch

from pipeline.config import RuntimeSettings
from pipeline.inference.engine import Engine
from pipeline.models.pairs import Pairs

engine = Engine.ready(Path(sys.argv[1]), RuntimeSettings(precision="float32", compile=True, batch_frames=7))
height, width = engine.image_size_px
wanted = height * width * 3
pages = -(-wanted // mmap.PAGESIZE)
memory = mmap.mmap(-1, (pages + 1) * mmap.PAGESIZE)
wall = ctypes.addressof(ctypes.c_char.from_buffer(memory)) + pages * mmap.PAGESIZE
protected = ctypes.CDLL(None).mprotect(ctypes.c_void_p(wall), ctypes.c_size_t(mmap.PAGESIZE), 0)
assert protected == 0
frame = torch.frombuffer(memory, dtype=torch.uint8, count=wanted, offset=pages * mmap.PAGESIZE - wanted)
frame = frame.view(1, height, width, 3)
with torch.inference_mode():
    assert [len(level) for level in engine.encode(frame)] == [1, 1, 1]
reading = engine.score(frame, Pairs.none(frame), ["gate"])
assert (len(reading.shown), len(reading.scores)) == (1, 1)
print(reading.scores.item().hex())
"""


def run_script(text, folder):
    """Run Python with this process's number of threads, which is part of a package's name."""
    return subprocess.run(
        [sys.executable, "-c", f"import torch; torch.set_num_threads({torch.get_num_threads()})\n{text}", str(folder)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
        timeout=120.0,
    )


def test_a_lone_frame_is_read_to_its_end_and_no_further(folder):
    engine = Engine.ready(folder, RuntimeSettings(precision="float32", **SETTINGS))
    empty = FrameBatch.unpaired(batch([0]).headers, np.zeros((1, *SIZE_PX, 3), np.uint8))
    done = run_script(BEFORE_A_WALL, folder)
    assert done.returncode == 0, done.stderr or f"exit code {done.returncode}"
    assert done.stdout.split() == [engine.predict(empty, ["gate"])[0].anomaly_score.hex()]


@pytest.mark.parametrize("count", [1, 2, FRAMES])
def test_features_and_maps_do_not_depend_on_how_their_inputs_lie_in_memory(folder, count):
    engine = Engine.ready(folder, RuntimeSettings(precision="float32", **SETTINGS))
    images = torch.from_numpy(batch(range(count)).images.copy())
    upside_down = images.permute(0, 3, 2, 1).contiguous().permute(0, 3, 2, 1)
    rows = engine.anomaly_model.scene_rows(scenes_of(range(count)))
    spread = torch.stack([rows, rows], dim=1)[:, 0]
    assert not upside_down.is_contiguous()
    with torch.inference_mode():
        features = engine.encode(images)
        for level, other in zip(features, engine.encode(upside_down), strict=True):
            assert torch.equal(level, other)
        expected = engine.anomaly_model.anomaly_maps(images, lambda _: features, rows)
        in_rows = [level.contiguous() for level in features]
        found = engine.anomaly_model.anomaly_maps(images, lambda _: in_rows, spread)
        assert torch.equal(found.shown, expected.shown)
        assert torch.equal(found.scored, expected.scored)


def test_frames_that_the_code_was_not_made_for_are_refused(folder):
    engine = Engine.ready(folder, RuntimeSettings(precision="float32", **SETTINGS))
    for images in (torch.zeros(2, 32, 32, 3, dtype=torch.uint8), torch.zeros(2, *SIZE_PX, 3)):
        with pytest.raises(ValueError, match=r"expected uint8 images of shape \(B, 64, 96, 3\), got"):
            engine.encode(images)


FRESH = """
import sys
from pathlib import Path
from pipeline.config import RuntimeSettings
from pipeline.inference import packages
from pipeline.inference.engine import Engine

def build(*_):
    raise SystemExit("it was compiled once more")

packages.compile_package = build
engine = Engine.ready(Path(sys.argv[1]), RuntimeSettings(precision="float32", compile=True, batch_frames=7))
assert engine.tuning.compiled
heavy = {"timm", "FrEIA", "torch._dynamo", "sympy"} & sys.modules.keys()
assert not heavy, heavy
from tests.inference.test_engine import batch, scenes_of
print(*(one.anomaly_score.hex() for one in engine.predict(batch(range(7)), scenes_of(range(7)))))
"""


def test_a_later_process_loads_what_was_made_without_what_made_it_and_scores_the_same_to_the_last_bit(folder):
    engine = Engine.ready(folder, RuntimeSettings(precision="float32", **SETTINGS))
    expected = [one.anomaly_score.hex() for one in engine.predict(batch(range(FRAMES)), scenes_of(range(FRAMES)))]
    done = run_script(FRESH, folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == expected


def test_a_machine_whose_compiler_fails_runs_the_model_as_it_stands(folder, expected, monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    calls, compiler = tmp_path / "calls", tmp_path / "g++"
    compiler.write_text(f"#!/bin/sh\necho $@ >> {calls}\nexit 1\n", encoding="ascii")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    (tmp_path / "pipeline.py").write_text("raise ImportError('the wrong pipeline')")
    monkeypatch.chdir(tmp_path)  # the compiler is called all the same
    with caplog.at_level(logging.WARNING):
        engine = Engine.ready(folder, RuntimeSettings(precision="float32", **SETTINGS))
    assert "compiling it failed" in caplog.text
    assert not engine.tuning.compiled
    got = engine.predict(batch(range(FRAMES)), scenes_of(range(FRAMES)))
    assert [one.anomaly_score for one in got] == pytest.approx([one.anomaly_score for one in expected], rel=1e-5)
    tried = calls.read_text()
    assert tried
    caplog.clear()
    assert not Engine.ready(folder, RuntimeSettings(precision="float32", **SETTINGS)).tuning.compiled
    assert "not tried for an hour" in caplog.text
    assert calls.read_text() == tried
    left = {path.name for path in (tmp_path / "cflow-stream" / "packages").iterdir()} - {"lock", "in-use"}
    assert [Path(name).suffix for name in left] == [".failed"]  # nothing half made


def test_code_that_crashes_where_it_was_made_never_comes_to_a_detector(folder, tmp_path, monkeypatch):
    """As on a machine whose compiler puts a C++ library of its own into what it makes."""
    crash = tmp_path / "crash.o"
    source = "__attribute__((constructor)) void crash(void) { __builtin_trap(); }"
    subprocess.run(["g++", "-fPIC", "-c", "-x", "c++", "-", "-o", crash], input=source, text=True, check=True)
    compiler = tmp_path / "g++"
    compiler.write_text(f'#!/bin/sh\ncase "$*" in *-shared*) exec g++ "$@" {crash};; *) exec g++ "$@";; esac\n')
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    how = Tuning(torch.float32, compiled=True), torch.device("cpu")
    with pytest.raises(PackageError, match="SIGILL ended it, or what it had made"):
        packages.compile_package(folder, read_card(folder), *how, tmp_path, 100.0)


LINEAR = """
import sys
from pathlib import Path

from pipeline.inference.build_package import _compile
from pipeline.inference.packages import _runner

library, values = Path(sys.argv[1]) / "linear.so", torch.ones(3, 2)
with torch.no_grad():
    linear = torch.nn.Linear(2, 2)
    _compile(linear, (values,), ({0: torch.export.Dim("rows", min=2, max=8)},), library)
    assert torch.allclose(_runner(library, torch.device("cpu"))([values])[0], linear(values))
"""


def test_code_runs_on_torchs_cpp_library_where_a_compiler_would_put_one_of_its_own_into_it(tmp_path, monkeypatch):
    compiler = tmp_path / "g++"
    compiler.write_text('#!/bin/sh\ncase "$*" in *-shared*) set -- -static-libstdc++ "$@";; esac\nexec g++ "$@"\n')
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    done = run_script(LINEAR, tmp_path)
    assert done.returncode == 0, done.stderr
    nm = ["nm", "--defined-only", tmp_path / "linear.so"]
    defined = subprocess.run(nm, capture_output=True, text=True, check=True)
    assert "AOTInductorModelContainerRun" in defined.stdout
    assert "_ZNSt6localeC1Ev" not in defined.stdout  # std::locale(): two of them in a process, and torch 2.11 crashed


def test_a_compiler_that_hangs_ends_with_the_process_that_waits_for_it(folder, tmp_path):
    lifeline = Lifeline(tmp_path / "lifeline")
    compiler = tmp_path / "g++"
    compiler.write_text(f"#!/bin/sh\n{HANGS.format(pipe=lifeline.path)}\n", encoding="ascii")
    compiler.chmod(0o755)
    with subprocess.Popen(
        [sys.executable, "-c", FRESH.replace("packages.compile_package = build", ""), str(folder)],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path), "CXX": str(compiler)},
    ) as waits:
        lifeline.wait_for_start(100.0)
        waits.kill()
    lifeline.wait_for_end(10.0)


def test_a_build_that_takes_too_long_is_given_up(folder, tmp_path):
    how = Tuning(torch.float32, compiled=True), torch.device("cpu")
    with pytest.raises(PackageError, match="it took longer than 1 s"):
        packages.compile_package(folder, read_card(folder), *how, tmp_path, 1.0)


def test_another_model_in_the_folder_is_not_taken_for_the_one_that_is_wanted(folder, tmp_path):
    wanted = tiny_checkpoint(tmp_path / "other", seed=1)
    how = Tuning(torch.float32, compiled=True), torch.device("cpu")
    with pytest.raises(PackageError, match=f"expected the model {wanted.short_fingerprint}, got"):
        packages.compile_package(folder, wanted, *how, tmp_path, 100.0)


@pytest.fixture
def package(monkeypatch, tmp_path, folder):
    """The model's package in a cache of this test alone."""
    Engine.ready(folder, RuntimeSettings(precision="float32", **SETTINGS))
    key = packages.package_key(read_card(folder), Tuning(torch.float32, compiled=True), torch.device("cpu"))
    theirs = cache_folder("packages") / key
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return Path(shutil.copytree(theirs, cache_folder("packages") / key))


def test_a_package_that_is_damaged_is_deleted_and_made_anew(package, folder, expected, caplog):
    (package / packages.FLOWS_FILE).write_bytes(b"no library")
    with caplog.at_level(logging.WARNING):
        engine = Engine.load(folder, tuning=Tuning(compiled=True))
    assert "the compiled model is damaged and is made anew" in caplog.text
    got = engine.predict(batch(range(FRAMES)), scenes_of(range(FRAMES)))
    assert [one.anomaly_score for one in got] == pytest.approx([one.anomaly_score for one in expected], rel=1e-4)
    assert (package / packages.FLOWS_FILE).read_bytes() != b"no library"


def test_a_package_that_torch_cannot_run_at_present_is_kept(package, folder):
    """As where a GPU's memory is full; here the library has nothing that torch asks for."""
    library = package / packages.FLOWS_FILE
    library.unlink()
    subprocess.run(["g++", "-shared", "-x", "c++", "/dev/null", "-o", str(library)], check=True)
    with pytest.raises(PackageError, match="AOTInductorModelContainer"):
        Engine.load(folder, tuning=Tuning(compiled=True))
    assert library.exists()


@pytest.fixture
def several_sizes(tmp_path):
    """DifferNet, which shows the encoder every frame at several sizes, on an encoder that pads by the size."""
    card, _, _ = tiny_model()
    asked = ENCODER.model_copy(update={"arguments": {"pad_type": "same"}})
    encoder = build_encoder(asked)
    shape = {"blocks": 2, "hidden_dims": 16, "scales": [1.0, 0.5]}
    model = ModelSettings.model_validate({"image_size_px": SIZE_PX, "method": "differnet", "differnet": shape})
    model = model.model_copy(update={"encoder": encoder.settings})
    torch.manual_seed(0)
    anomaly_model = Differnet(model, encoder.channels, card.scenes)
    for row in range(len(card.scenes)):
        for block in anomaly_model.flow(row).blocks:
            torch.nn.init.normal_(block.subnet1[-1].weight)
    card = card.model_copy(update={"model": model, "levels": ()})
    save_checkpoint(tmp_path / "differnet", card, encoder, anomaly_model.state_dict())
    return tmp_path / "differnet"


def test_a_method_that_encodes_several_sizes_is_compiled_for_each(several_sizes):
    engine = Engine.ready(several_sizes, RuntimeSettings(**SETTINGS))
    assert engine.tuning.compiled
    frames = batch(range(FRAMES)), scenes_of(range(FRAMES))
    with torch._dynamo.config.patch(error_on_recompile=True):
        got = [one.anomaly_score for one in engine.predict(*frames)]
        alone = engine.predict(batch([0]), scenes_of([0]))[0].anomaly_score
    assert alone == pytest.approx(got[0], rel=1e-4)
    assert got == pytest.approx([one.anomaly_score for one in Engine.load(several_sizes).predict(*frames)], rel=1e-4)
