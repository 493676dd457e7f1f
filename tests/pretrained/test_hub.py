"""Downloads from the Hugging Face Hub, from a server on this machine that answers as the Hub does."""

import hashlib
import http.server
import threading

import numpy as np
import pytest
import safetensors.numpy

from siamjax.pretrained import _hub

CONTENT = safetensors.numpy.save({"weight": np.arange(1000, dtype=np.float32)})


class Hub:
    """A repository acme/net: the answer to HEAD states the digest and points to the content, as the Hub's does."""

    def __init__(self):
        self.name, self.content, self.failures, self.requests = "model.safetensors", CONTENT, 0, []
        hub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_HEAD(self):
                hub.requests.append(f"HEAD {self.path}")
                if hub.failures:
                    hub.failures -= 1
                    return self.answer(503)
                if self.path != f"/acme/net/resolve/main/{hub.name}":
                    return self.answer(404)
                facts = {"X-Linked-Etag": f'"{hashlib.sha256(CONTENT).hexdigest()}"', "X-Linked-Size": len(CONTENT)}
                self.answer(302, **facts, Location="/content")

            def do_GET(self):
                hub.requests.append(f"GET {self.path}")
                if self.path.startswith("/acme/net/"):
                    return self.answer(302, Location="/content")
                self.answer(200, hub.content, Content_Length=len(hub.content))

            def answer(self, status, body=b"", **headers):
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name.replace("_", "-"), str(value))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def hub(monkeypatch, tmp_path):
    hub = Hub()
    monkeypatch.setenv("HF_ENDPOINT", hub.address)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(_hub, "_PAUSE", 0.01)
    yield hub
    hub.server.shutdown()
    hub.server.server_close()


def test_a_file_is_downloaded_once_and_then_used(hub):
    path = _hub.fetched("hf://acme/net")
    assert path.read_bytes() == CONTENT
    asked = len(hub.requests)
    assert _hub.fetched("hf://acme/net") == path and len(hub.requests) == asked


def test_failures_are_retried(hub):
    hub.failures = 2
    assert _hub.fetched("hf://acme/net").read_bytes() == CONTENT


def test_the_second_name_of_a_file_of_weights_is_found(hub):
    hub.name = "pytorch_model.bin"
    assert _hub.fetched("hf://acme/net").name == "pytorch_model.bin"


def test_other_content_than_stated_is_refused_and_leaves_no_file(hub, tmp_path):
    hub.content = CONTENT[:-1] + b"x"
    with pytest.raises(
        OSError, match=r"^hf://acme/net cannot be downloaded \(.*sha256.*save it as .*acme/net/model.safe"
    ):
        _hub.fetched("hf://acme/net")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len([request for request in hub.requests if request.startswith("GET /acme")]) == 3


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("hf://acme/other", "has neither model.safetensors nor pytorch_model.bin"),
        ("hf://acme", "must be hf://ORG/NAME"),
        ("hf://acme/../net", "must be hf://ORG/NAME"),
    ],
)
def test_what_is_not_there_or_no_address_is_refused(hub, address, message):
    with pytest.raises(ValueError, match=message):
        _hub.fetched(address)


def test_without_a_network_the_error_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(_hub, "_PAUSE", 0.01)
    with pytest.raises(
        OSError, match="check the name and the network, or download http://127.0.0.1:9/acme/net/resolve"
    ):
        _hub.fetched("hf://acme/net")
