#!/usr/bin/python3
"""A real RTSP server (GStreamer) that serves videos as live cameras and breaks on request.

Run by Debian's own Python, which has the bindings; ``tests/rtsp.py`` starts it. It writes one JSON line with its port
once it listens, then reads commands, one per line, and answers each with one JSON line::

    stall CAMERA          sends nothing more, connections stay
    resume CAMERA         goes on
    corrupt CAMERA N      overwrites bytes in the next N access units
    cut CAMERA N          cuts the next N access units short
    switch CAMERA FILE    goes on with another video
    clock CAMERA RATE     tells times that pass at so many times the speed of time; for those who come next
    tracks CAMERA TRACK.. has other tracks for whoever comes once all have left
    drop                  ends all connections
    quit

It ends with its standard input.
"""

import argparse
import dataclasses
import json
import random
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer  # noqa: E402

ROLE = "viewer"
CAPS = {
    "h264": "video/x-h264,stream-format=byte-stream,alignment=au",
    "h265": "video/x-h265,stream-format=byte-stream,alignment=au",
    "jpeg": "image/jpeg",
}
PARSE = {
    "h264": "h264parse config-interval=-1",
    "h265": "h265parse config-interval=-1",
    "jpeg": "jpegparse",
}
PAY = {
    "h264": "rtph264pay config-interval=-1 pt=96",
    "h265": "rtph265pay config-interval=-1 pt=96",
    "jpeg": "rtpjpegpay pt=26",
}
READ = 'filesrc location="{path}" ! qtdemux ! {parse} ! {caps} ! appsink name=sink sync=false max-buffers=0'
SOURCE = "appsrc name=source is-live=true format=time block=false max-bytes=20000000 caps={caps} ! {parse} ! {pay} "
# What else a camera sends, by the word that asks for it; the pictures are track 0, or follow it.
TRACKS = {
    "sound": "audiotestsrc is-live=true wave=silence ! mulawenc ! rtppcmupay pt=0 ",
    "metadata": "fakesrc is-live=true format=time do-timestamp=true sync=true datarate=1000 sizetype=fixed sizemax=100 "
    "filltype=zero ! application/x-onvif ! rtpgstpay pt=98 ",
    "thumbnail": "videotestsrc is-live=true ! video/x-raw,format=I420,width=32,height=32,framerate=5/1 ! jpegenc "
    "! rtpjpegpay pt=26 ",
}


@dataclass(frozen=True)
class Unit:
    """One access unit: a coded picture; times in nanoseconds."""

    data: bytes
    pts: int
    dts: int
    is_keyframe: bool


def codec_of(path: str) -> str:
    """``h264``, or what a name such as ``NAME.h265.mp4`` says."""
    word = path.split(".")[-2]
    return word if word in CAPS else "h264"


def filled(launch: str, path: str) -> str:
    codec = codec_of(path)
    return launch.format(path=path, caps=CAPS[codec], parse=PARSE[codec], pay=PAY[codec])


def launch_line(path: str, tracks: list[str], repeats: bool) -> str:
    """How a camera's tracks are made, in the order of their numbers."""
    # A parser would take parameter sets between slices for the beginning of another access unit.
    video = filled(SOURCE.replace("! {parse} ", "") if repeats else SOURCE, path)
    made = [video if track == "video" else TRACKS[track] for track in tracks]
    return "( " + "".join(f"{track}name=pay{number} " for number, track in enumerate(made)) + ")"


def repeated(data: bytes, path: str) -> bytes:
    """An access unit with its parameter sets, or its delimiter, before every slice, as some cameras send it."""
    is_hevc = codec_of(path) == "h265"
    slices, sets, delimiter = (range(22), {32, 33, 34}, {35}) if is_hevc else ({1, 2, 5}, {7, 8}, {9})
    first, *units = data.split(b"\0\0\1")
    kinds = [unit[0] >> 1 & 0x3F if is_hevc else unit[0] & 0x1F for unit in units]
    pairs = list(zip(kinds, units, strict=True))
    again = [unit for kind, unit in pairs if kind in sets] or [unit for kind, unit in pairs if kind in delimiter]
    sent, begun = [first], False
    for kind, unit in pairs:
        sent += again if begun and kind in slices else []
        sent.append(unit)
        begun = begun or kind in slices
    return b"\0\0\1".join(sent)


def read_units(path: str) -> list[Unit]:
    """Take a video apart into its access units, without decoding them."""
    pipeline = Gst.parse_launch(filled(READ, path))
    sink = pipeline.get_by_name("sink")
    pipeline.set_state(Gst.State.PLAYING)
    units = []
    while (sample := sink.emit("pull-sample")) is not None:
        buffer = sample.get_buffer()
        dts = buffer.pts if buffer.dts == Gst.CLOCK_TIME_NONE else buffer.dts
        is_keyframe = not buffer.has_flags(Gst.BufferFlags.DELTA_UNIT)
        units.append(Unit(buffer.extract_dup(0, buffer.get_size()), buffer.pts, dts, is_keyframe))
    pipeline.set_state(Gst.State.NULL)
    return units


class Camera:
    """One mount point; all who watch it share what it sends, as with a real camera."""

    def __init__(self, path: str, tracks: list[str], repeats: bool) -> None:
        self.units = read_units(path)
        if repeats:
            self.units = [dataclasses.replace(unit, data=repeated(unit.data, path)) for unit in self.units]
        self.flows = threading.Event()
        self.flows.set()
        self.to_corrupt = 0
        self.to_cut = 0
        self.clock_rate = 1.0
        self._noise = random.Random(0)
        self._media_number = 0
        self.factory = GstRtspServer.RTSPMediaFactory()
        self._path, self._repeats = path, repeats
        self.have(tracks)
        self.factory.set_shared(True)
        self.factory.connect("media-configure", self._serve)

    def have(self, tracks: list[str]) -> None:
        self.factory.set_launch(launch_line(self._path, tracks, self._repeats))

    def _serve(self, factory: object, media: GstRtspServer.RTSPMedia) -> None:
        self._media_number += 1
        source = media.get_element().get_by_name("source")
        if source is None:  # sound alone
            return
        threading.Thread(target=self._send, args=(source, self._media_number), daemon=True).start()

    def _send(self, source: Gst.Element, media_number: int) -> None:
        """Push access units as fast as they were filmed, until nobody watches any more."""
        started = time.monotonic()
        for unit, pts, dts, duration in self._endless():
            while not self.flows.wait(0.05) and media_number == self._media_number:
                pass
            time.sleep(max(started + dts / 1e9 - time.monotonic(), 0.0))
            buffer = Gst.Buffer.new_wrapped(self._spoilt(unit.data))
            buffer.pts, buffer.dts, buffer.duration = (
                round(time_ns * self.clock_rate) for time_ns in (pts, dts, duration)
            )
            if not unit.is_keyframe:
                buffer.set_flags(Gst.BufferFlags.DELTA_UNIT)
            if media_number != self._media_number or source.emit("push-buffer", buffer) != Gst.FlowReturn.OK:
                return

    def _endless(self) -> Iterator[tuple[Unit, int, int, int]]:
        """Access units with times that go on when the video starts again, or when another one takes its place."""
        offset = 0
        while True:
            units = self.units
            duration = units[-1].dts - units[-2].dts
            first = units[0].dts
            for unit in units:
                if units is not self.units:
                    break
                yield unit, unit.pts - first + offset, unit.dts - first + offset, duration
                end = unit.dts - first + offset + duration
            offset = end

    def _spoilt(self, data: bytes) -> bytes:
        if self.to_corrupt > 0:
            self.to_corrupt -= 1
            spoilt = bytearray(data)
            for _ in range(max(8, len(spoilt) // 50)):
                # The second half is the picture. Headers stay whole, and no start code arises (values from 4 on): this
                # server's own parser would give up on those, and the camera would end instead of sending damage.
                spoilt[self._noise.randrange(len(spoilt) // 2, len(spoilt))] = self._noise.randrange(4, 256)
            data = bytes(spoilt)
        if self.to_cut > 0:
            self.to_cut -= 1
            data = data[: max(6, len(data) // 3)]
        return data


def require_password(server: GstRtspServer.RTSPServer, user: str, password: str, method: str) -> None:
    auth = GstRtspServer.RTSPAuth()
    token = GstRtspServer.RTSPToken()
    token.set_string(GstRtspServer.RTSP_TOKEN_MEDIA_FACTORY_ROLE, ROLE)
    if method == "digest":
        auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
        auth.add_digest(user, password, token)
    else:
        auth.add_basic(GstRtspServer.RTSPAuth.make_basic(user, password), token)
    server.set_auth(auth)


def allow_viewers(factory: GstRtspServer.RTSPMediaFactory) -> None:
    permissions = GstRtspServer.RTSPPermissions()
    permissions.add_role(ROLE)
    for what in ("access", "construct"):
        permissions.add_permission_for_role(ROLE, f"media.factory.{what}", True)
    factory.set_permissions(permissions)


def obey(words: list[str], cameras: dict[str, Camera], server: GstRtspServer.RTSPServer) -> None:
    verb, camera = words[0], cameras[words[1]] if len(words) > 1 else None
    if verb == "drop":
        GLib.idle_add(lambda: server.client_filter(lambda *_: GstRtspServer.RTSPFilterResult.REMOVE) and False)
    elif verb == "stall":
        camera.flows.clear()
    elif verb == "resume":
        camera.flows.set()
    elif verb == "corrupt":
        camera.to_corrupt = int(words[2])
    elif verb == "cut":
        camera.to_cut = int(words[2])
    elif verb == "switch":
        camera.units = read_units(words[2])
    elif verb == "clock":
        camera.clock_rate = float(words[2])
    elif verb == "tracks":
        camera.have(words[2:])
    else:
        raise ValueError(f"expected a command, got {verb}")


def say(**values: object) -> None:
    sys.stdout.write(json.dumps(values) + "\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", default="0")
    parser.add_argument("--password", nargs=3, metavar=("USER", "PASSWORD", "METHOD"), help="METHOD: basic or digest")
    parser.add_argument("--repeat", action="store_true", help="parameter sets and delimiters before every slice")
    parser.add_argument("--address", default="127.0.0.1")
    parser.add_argument("--transport", choices=("udp", "tcp"), help="the only one that it offers")
    parser.add_argument(
        "cameras", nargs="+", metavar="NAME[+TRACK...]=FILE", help=f"TRACK: video or {', '.join(TRACKS)}"
    )
    options = parser.parse_args()
    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address(options.address)
    server.set_service(options.port)
    if options.password:
        require_password(server, *options.password)
    cameras = {}
    for entry in options.cameras:
        (name, *tracks), path = entry.split("=", 1)[0].split("+"), entry.split("=", 1)[1]
        camera = cameras[name] = Camera(path, tracks or ["video"], options.repeat)
        if options.transport:
            camera.factory.set_protocols(getattr(GstRtsp.RTSPLowerTrans, options.transport.upper()))
        if options.password:
            allow_viewers(camera.factory)
        server.get_mount_points().add_factory(f"/{name}", camera.factory)
    if server.attach(None) == 0:
        sys.exit(f"port {options.port} is not free")
    loop = GLib.MainLoop()

    def listen() -> None:
        for line in sys.stdin:
            words = line.split()
            if words[0] == "quit":
                break
            obey(words, cameras, server)
            say(done=words)
        loop.quit()

    threading.Thread(target=listen, daemon=True).start()
    say(port=server.get_bound_port())
    loop.run()


if __name__ == "__main__":
    main()
