"""Files as they lie beside footage, or whose headers say what is not so."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av

from tests.videos import SIZE_PX, numbered_frame, write_video


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


def write_spaced(path: Path, frames: int = 20, *, stated_fps: int = 25, every: int = 5) -> Path:
    """Footage of 1 / ``every`` of the rate that its encoder was told, and that most containers state."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=stated_fps)
        stream.height, stream.width, stream.pix_fmt = *SIZE_PX, "yuv420p"
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(numbered_frame(number), format="rgb24")
            frame.pts, frame.time_base = every * number, Fraction(1, stated_fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def state_frames(path: Path, frames: int) -> Path:
    """Make an AVI's header state another number of frames than it has."""
    data = bytearray(path.read_bytes())
    at = data.index(b"strh") + 8 + 32  # dwLength of the first stream
    data[at : at + 4] = frames.to_bytes(4, "little")
    path.write_bytes(data)
    return path
