import json
import socket
import struct
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from actors.control import RunControl
from actors.control_socket import ask_run, serve_control
from pipeline.config_file import load_config
from pipeline.errors import BadInputError, RunError
from pipeline.runtime.status import RunStatus
from pipeline.sinks.run_lock import run_lock
from pipeline.types import FrameCounts
from pipeline.verdicts import read_verdicts
from tests.test_verdicts import on

GATE = {"id": "gate", "url": "rtsp://user:secret@10.0.0.1/main"}
SCENES = ("gate", "yard", "s", "new")


class Run:
    """What a run was told last, from a config file on disk."""

    def __init__(self, folder, **sections):
        self.path = folder / "cameras.yaml"
        self.write(**{"cameras": [GATE], **sections})
        self.told = []
        self.stopped = threading.Event()
        self.run_control = RunControl(
            load_config(self.path), self.path, SCENES, lambda *what: self.told.append(what), stop=self.stopped.set
        )

    def write(self, **sections):
        self.path.write_text(yaml.safe_dump(sections))

    @property
    def ids(self):
        return [camera.id for camera in self.told[-1][0]]


@pytest.fixture
def running(tmp_path):
    return Run(tmp_path, camera_defaults={"sample_fps": 2.0})


def test_a_camera_is_added_with_the_runs_defaults_paused_resumed_and_removed(running):
    said = running.run_control.answer({"do": "add", "camera": {"id": "yard", "url": "rtsp://10.0.0.2/x", "scene": "s"}})
    assert "camera yard: added" in said["said"]
    (_, yard), paused = running.told[-1]
    assert (yard.id, yard.scene, yard.sample_fps, paused) == ("yard", "s", 2.0, frozenset())
    running.run_control.answer({"do": "pause", "id": "yard"})
    assert running.told[-1][1] == {"yard"}
    assert [camera["paused"] for camera in running.run_control.answer({"do": "list"})["cameras"]] == [False, True]
    running.run_control.answer({"do": "resume", "id": "yard"})
    assert running.told[-1][1] == frozenset()
    running.run_control.answer({"do": "remove", "id": "gate"})
    assert running.ids == ["yard"]


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        ({"do": "add", "camera": {"id": "GATE", "url": "x.mp4"}}, "camera GATE: expected an id that is not in use"),
        ({"do": "add", "camera": {"id": "a/b", "url": "x.mp4"}}, r"camera: cameras.0.id: expected 1 to 64 letters"),
        ({"do": "add", "camera": {"id": "new"}}, r"camera: cameras.new.url: expected a value, got nothing"),
        ({"do": "add", "camera": {"id": "new", "url": "rstp://h/x"}}, r"cameras.new.url: .*did you mean rtsp://"),
        ({"do": "add", "camera": 7}, r"cameras.0: "),
        ({"do": "remove", "id": "nobody"}, r"camera 'nobody': expected a camera of this run \(gate\), got another"),
        ({"do": "dance"}, "expected list, add, remove, pause, resume or stop, got 'dance'"),
        ({}, "got None"),
    ],
)
def test_a_request_that_cannot_be_met_changes_nothing_and_says_why(running, request_, said):
    with pytest.raises(BadInputError, match=said):
        running.run_control.answer(request_)
    assert running.told == []


def test_a_scene_that_the_model_does_not_know_is_told_when_a_camera_is_added_and_when_the_file_is_read_again(running):
    known = {"id": "yard", "url": "rtsp://10.0.0.2/x"}
    assert running.run_control.answer({"do": "add", "camera": known})["warnings"] == []
    (warning,) = running.run_control.answer({"do": "add", "camera": {"id": "roof", "url": "rtsp://10.0.0.3/x"}})[
        "warnings"
    ]
    assert warning == (
        "camera roof: the model knows no scene 'roof' (it knows gate, yard, s, new); "
        "the threshold is that of all scenes together"
    )
    running.write(cameras=[{**GATE, "scene": "door"}, {"id": "new", "url": "y.mp4"}])
    lines = running.run_control.reload()
    assert [line.split(":")[0] for line in lines] == ["camera gate", "camera new", "warning"]
    assert lines[-1].startswith("warning: camera gate: the model knows no scene 'door'")


def test_addresses_are_listed_without_credentials(running):
    (shown,) = running.run_control.answer({"do": "list"})["cameras"]
    assert shown == {"id": "gate", "url": "rtsp://***@10.0.0.1/main", "scene": "gate", "paused": False}


def test_a_reload_takes_over_what_changed_in_the_file_and_keeps_what_was_added_by_hand(running):
    running.run_control.answer({"do": "add", "camera": {"id": "byhand", "url": "x.mp4"}})
    assert running.run_control.reload() == ["nothing has changed"]
    assert running.ids == ["gate", "byhand"]
    running.write(cameras=[{**GATE, "sample_fps": 5}, {"id": "new", "url": "y.mp4"}], runtime={"batch_frames": 3})
    assert running.run_control.reload() == [
        "camera gate: changed",
        "camera new: added",
        "runtime: a change takes effect with the next run",
    ]
    assert running.ids == ["gate", "byhand", "new"]
    assert running.told[-1][0][0].sample_fps == 5
    running.write(cameras=[{"id": "new", "url": "y.mp4"}], runtime={"batch_frames": 3})
    assert running.run_control.reload() == ["camera gate: removed"]
    assert running.ids == ["byhand", "new"]


def test_a_file_with_a_fault_is_not_taken_over(running):
    running.write(cameras=[{**GATE, "colour": "red"}])
    with pytest.raises(BadInputError, match=r"cameras\.gate\.colour: unknown key"):
        running.run_control.reload()
    assert running.told == []


def test_what_the_run_could_not_be_told_has_not_happened(running):
    def away(cameras, paused):
        raise RuntimeError("the supervisor is away")

    run_control = RunControl(load_config(running.path), running.path, SCENES, away, stop=running.stopped.set)
    requests = [{"do": "add", "camera": {"id": "yard", "url": "rtsp://10.0.0.2/x"}}]
    requests += [{"do": do, "id": "gate"} for do in ("pause", "remove")]
    for request in requests:
        with pytest.raises(RuntimeError):
            run_control.answer(request)
    running.write(cameras=[{"id": "door", "url": "rtsp://10.0.0.3/x"}])
    with pytest.raises(RuntimeError):
        run_control.reload()
    (camera,) = run_control.answer({"do": "list"})["cameras"]
    assert (camera["id"], camera["paused"]) == ("gate", False)


def test_of_a_run_that_is_still_starting_is_not_said_that_there_is_none(tmp_path):
    with run_lock(tmp_path), pytest.raises(BadInputError, match="got one that is still starting, or ending"):
        ask_run(tmp_path, {"do": "stop"})


def test_the_socket_of_a_run_that_was_killed_is_used_again_by_the_next_one(running, tmp_path):
    with serve_control(running.run_control, tmp_path):
        path = json.loads((tmp_path / "control.json").read_text())["socket"]
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(path)  # what stays behind: a socket at which nobody listens
    with pytest.raises(BadInputError, match="expected a run under way, found none"):
        ask_run(tmp_path, {"do": "list"})
    with serve_control(running.run_control, tmp_path):
        assert json.loads((tmp_path / "control.json").read_text())["socket"] == path
        assert ask_run(tmp_path, {"do": "list"})["cameras"]


def test_another_command_of_this_user_reaches_the_run_and_nobody_is_there_afterwards(running, tmp_path, caplog, capfd):
    with serve_control(running.run_control, tmp_path):
        assert ask_run(tmp_path, {"do": "list"})["cameras"][0]["id"] == "gate"
        with pytest.raises(BadInputError, match="expected a camera of this run"):
            ask_run(tmp_path, {"do": "pause", "id": "nobody"})
        path = json.loads((tmp_path / "control.json").read_text())["socket"]
        for garbage in (b"\n", b"not json\n", b"[1]\n", b"\xff\xfe\n", b""):
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(path)
                connection.sendall(garbage)
                connection.shutdown(socket.SHUT_WR)
                assert "error" in json.loads(connection.makefile().readline())
        with socket.socket(socket.AF_UNIX) as connection:  # somebody who does not wait for the answer
            connection.connect(path)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.sendall(b'{"do": "list"}\n' * 1000)
        assert ask_run(tmp_path, {"do": "list"})["cameras"]
    assert "Traceback" not in caplog.text + capfd.readouterr().err
    assert not Path(path).exists()
    with pytest.raises(BadInputError, match="expected a run under way, found none"):
        ask_run(tmp_path, {"do": "list"})


def test_a_run_whose_folder_cannot_be_written_goes_on_without_being_reached(running, tmp_path, caplog):
    (tmp_path / "control.json").mkdir()
    with pytest.raises(BadInputError, match="found none"), serve_control(running.run_control, tmp_path):
        assert "`cameras` and `stop` will not reach this run: Is a directory" in caplog.text
        ask_run(tmp_path, {"do": "list"})


def test_who_asks_for_the_end_is_answered_with_the_totals_once_the_run_has_ended(running, tmp_path):
    counts = FrameCounts(12_000, 11_990, {"overload": 10})
    with ThreadPoolExecutor() as others, serve_control(running.run_control, tmp_path):
        asked = [others.submit(ask_run, tmp_path, {"do": "stop"}) for _ in range(2)]
        assert running.stopped.wait(10.0)
        assert not any(answer.done() for answer in asked)
        assert ask_run(tmp_path, {"do": "list"})["cameras"]
        running.run_control.over(
            RunStatus((), True, ("a full disk",), alerts={"emitted": 3, "waiting": 1}, archived=counts)
        )
    for answer in asked:
        assert answer.result() == {
            "said": "12,000 frames decoded, 11,990 scored, 10 dropped (overload 10); 3 alerts, 1 not delivered yet",
            "warnings": ["a full disk"],
        }


def test_who_asks_for_the_end_of_a_run_that_fails_learns_that(running, tmp_path):
    with ThreadPoolExecutor() as others, serve_control(running.run_control, tmp_path):
        asked = others.submit(ask_run, tmp_path, {"do": "stop"})
        assert running.stopped.wait(10.0)
    with pytest.raises(RunError, match="expected the run to end in good order, it failed"):
        asked.result()


def test_verdicts_are_kept_and_told_and_what_is_none_is_refused_with_nothing_kept(running, tmp_path):
    path = tmp_path / "run" / "verdicts.jsonl"
    config = load_config(running.path)
    run_control = RunControl(config, None, SCENES, lambda *what: None, stop=running.stopped.set, verdicts=path)
    given = on(zone="yard")
    assert run_control.answer({"do": "judge", "verdict": given.as_object()}) == {"said": "kept"}
    assert run_control.answer(json.loads(json.dumps({"do": "verdicts"}))) == {"verdicts": [given.as_object()]}
    with pytest.raises(BadInputError, match=r"verdict: verdict: .*got 'perhaps'"):
        run_control.answer({"do": "judge", "verdict": {**given.as_object(), "verdict": "perhaps"}})
    with pytest.raises(BadInputError, match=r"verdict: all: .*got 'None'"):
        run_control.answer({"do": "judge"})
    assert read_verdicts(path) == {given.event_id: given}
