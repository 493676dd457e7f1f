import functools
import hashlib
import http.server
import threading

import pytest

from siamjax.data import download


@pytest.fixture
def address(tmp_path):
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "file.gz").write_bytes(b"content")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path / "served")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def test_a_download_is_complete_or_leaves_nothing(address, tmp_path):
    path, sha256 = tmp_path / "new" / "file.gz", hashlib.sha256(b"content").hexdigest()
    with pytest.raises(download.FAILURES):
        download.fetch(address + "absent.gz", path, timeout=10, size=7, sha256=sha256)
    for size, digest in ((6, sha256), (8, sha256), (7, hashlib.sha256(b"contents").hexdigest())):
        with pytest.raises(download.FAILURES, match="is not the official file"):
            download.fetch(address + "file.gz", path, timeout=10, size=size, sha256=digest)
    assert not path.parent.exists()
    download.fetch(address + "file.gz", path, timeout=10, size=7, sha256=sha256)
    assert [file.name for file in path.parent.iterdir()] == ["file.gz"] and path.read_bytes() == b"content"
