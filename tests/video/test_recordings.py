"""The folder that recordings go to."""

import pytest

from pipeline.errors import BadInputError
from pipeline.video.recordings import RecordingFolder
from tests.videos import write_video


def test_a_folder_with_anything_else_in_it_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(BadInputError, match=r"expected a new folder or one that 'record' wrote, got .*'thesis.tex'"):
        RecordingFolder(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(BadInputError, match="got a file"):
        RecordingFolder(tmp_path / "thesis.tex")
    with pytest.raises(BadInputError, match="expected a folder to record into, got: Not a directory"):
        RecordingFolder(tmp_path / "thesis.tex" / "out")


def test_a_data_set_that_was_not_recorded_is_never_added_to(tmp_path):
    write_video(tmp_path / "training/videos/01_001.avi", 5)
    with pytest.raises(BadInputError, match="'training'"):
        RecordingFolder(tmp_path)


def test_two_processes_never_record_into_one_folder(tmp_path):
    with (
        RecordingFolder(tmp_path / "out"),
        pytest.raises(BadInputError, match="another process records"),
    ):
        RecordingFolder(tmp_path / "out")
    with RecordingFolder(tmp_path / "out"):
        pass


def test_the_empty_folder_of_a_new_disk_will_do(tmp_path):
    (tmp_path / "lost+found").mkdir()
    with RecordingFolder(tmp_path):
        pass


def test_numbers_go_on_after_the_highest_whatever_the_case_of_the_scene(tmp_path):
    with RecordingFolder(tmp_path / "out") as folder:
        for name in ("gate_0007.mkv", "Gate_0012.mp4", "gate_x.mkv", "gate_yard_0099.mkv", "notes.txt"):
            (folder.videos / name).write_text("")
        staged_path = folder.stage("GATE")
        staged_path.write_text("whole")
        assert folder.publish(staged_path).name == "GATE_0013.mkv"
