import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.rtsp import RtspServer, require_rtsp, write_footage


@pytest.fixture
def http_folder(tmp_path):
    """A folder served over HTTP, which makes its files live streams."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format, *arguments):
            pass

    folder = tmp_path / "served"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def rtsp(tmp_path):
    """An RTSP server with one camera, ``gate``."""
    require_rtsp()
    with RtspServer({"gate": write_footage(tmp_path / "gate.mp4")}) as server:
        yield server
