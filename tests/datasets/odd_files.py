"""Files as they lie beside footage, or whose headers say what is not so."""

from __future__ import annotations

from pathlib import Path

import av

from tests.videos import write_video


def write_fragmented(path: Path, frames: int = 30) -> Path:
    """An mp4 whose header counts only the ten frames of its first fragment, as recorders write that may be cut off."""
    whole = write_video(path.with_name(f"{path.name}.whole"), frames, container_format="mp4")
    with av.open(str(whole)) as source, av.open(str(path), "w", "mp4", options={"movflags": "frag_keyframe"}) as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    whole.unlink()
    return path


def state_frames(path: Path, frames: int) -> Path:
    """Make an AVI's header state another number of frames than it has."""
    data = bytearray(path.read_bytes())
    at = data.index(b"strh") + 8 + 32  # dwLength of the first stream
    data[at : at + 4] = frames.to_bytes(4, "little")
    path.write_bytes(data)
    return path
