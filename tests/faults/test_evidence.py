"""Pictures and clips of events on a disk that takes no more."""

from pipeline.evidence.writer import EvidenceWriter
from pipeline.evidence_settings import EvidenceSettings
from tests.evidence.made import Clock, filled
from tests.evidence.test_writer import HEIGHT, WIDTH, camera, request, the_answer
from tests.videos import write_video


def test_a_full_disk_leaves_nothing_half_is_said_once_and_the_next_event_has_its_clip(disk, tmp_path):
    writer = EvidenceWriter(EvidenceSettings(), disk.folder, tmp_path / "elsewhere", now=Clock())
    filled(write_video(tmp_path / "gate.mp4", 150, size_px=(HEIGHT, WIDTH)), ring=writer.keeper(camera()))
    early = the_answer(writer, request())
    assert early.picture is not None
    disk.fill()  # while its clip is written
    lost = the_answer(writer, request(end=90), number=2)
    assert (lost.picture, lost.clip) == (early.picture, None)
    assert lost.why == "it could not be written or read: No space left on device"
    assert (disk.folder / lost.picture).read_bytes()[-2:] == b"\xff\xd9"  # that of before, whole
    (folder,) = (disk.folder / early.picture).parents[1].iterdir()
    assert {path.name for path in folder.iterdir()} == {"picture.jpg", "event.json"}
    for _ in range(3):
        writer.step()
        (trouble,) = writer.report()[1]
        assert trouble.text == f"pictures and clips of events are not written: {disk.folder}: No space left on device"
    refused = the_answer(writer, request(start=60, peak=65), number=3)
    assert refused.picture is None
    disk.free()
    again = the_answer(writer, request(start=60, peak=65, end=90), number=4)
    assert again.picture is not None
    done = the_answer(writer, request(start=70, peak=75, end=90), number=5)
    assert (done.clip is not None, done.why, writer.report()[1]) == (True, "", ())
