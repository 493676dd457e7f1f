"""The HTTP service: what it answers, what it refuses, and how it ends."""

import asyncio
import base64
import concurrent.futures
import contextlib
import dataclasses
import importlib.util
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request

import numpy as np
import pytest
from PIL import Image

from siamjax import cli
from siamjax.data import images
from siamjax.gallery import Gallery
from siamjax.network import Inputs

pytest.importorskip("fastapi", reason="pip install 'siamjax[serve]'")
pytest.importorskip("httpx2", reason="pip install 'siamjax[test]'")
import reporting
from serving import a_network, file, text
from starlette.applications import Starlette
from starlette.testclient import TestClient

from siamjax import serve
from siamjax.serve._histogram import histogram_of
from siamjax.serve._starting import Starting
from siamjax.serve._types import Refusal
from siamjax.serve._uploads import pixels

SECRET = "a secret of a test".replace(" ", "-")
LOCAL = "http://localhost:8765"


@pytest.fixture(scope="module")
def network():
    return a_network()


@pytest.fixture(scope="module")
def warmed(network, tmp_path_factory):
    """A client of a service with an empty gallery, and the folder of that."""
    folder = tmp_path_factory.mktemp("served") / "gallery"
    app = serve.application(network, Gallery(folder, network), page=True)
    with TestClient(app, LOCAL, raise_server_exceptions=False) as client:
        assert (first := client.get("/health")).status_code in (200, 503)
        assert first.json()["status"] in ("ok", "warming up")
        while client.get("/health").status_code != 200:
            time.sleep(0.05)
        yield client, folder


@pytest.fixture
def client(warmed):
    """The client; its gallery is empty."""
    client, _ = warmed
    for each in client.get("/v1/identities").json()["identities"]:
        assert client.delete(f"/v1/identities/{each['identity']}").status_code == 200
    return client


@pytest.fixture
def limited(network):
    """Makes a client of a service with other limits, or with a token, that serves no gallery."""
    opened = []

    def limited(token=None, host=LOCAL, network=network, **limits):
        app = serve.application(network, token=token, limits=serve.Limits(**limits))
        opened.append(TestClient(app, host, raise_server_exceptions=False).__enter__())
        return opened[-1]

    yield limited
    for each in opened:
        each.__exit__(None, None, None)


def refused(answer, status, *words):
    """The error of an answer with this status, in which these words are."""
    assert answer.status_code == status, answer.text
    assert list(answer.json()) == ["error"]
    message = answer.json()["error"]
    assert all(word in message for word in words), message
    assert not re.search(r"/(tmp|home|root|usr|work)/|Traceback|\.py", message), message
    return message


def test_requests_at_a_time_get_the_networks_own_embeddings(client, network):
    counts = [1, 3, 8, 1, 32, 5, 1, 2, 9, 1, 1, 20]
    grey = np.arange(sum(counts)) % 200
    starts = np.cumsum([0, *counts])
    texts = [text(value) for value in grey.tolist()]
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(file(value)))) for value in grey.tolist()])
    expected = network.embed(pixels[..., None])

    def ask(number):
        images = texts[starts[number] : starts[number + 1]]
        return client.post("/v1/embed", json={"images": images}).json()["embeddings"]

    with concurrent.futures.ThreadPoolExecutor(len(counts)) as pool:
        answers = list(pool.map(ask, range(len(counts))))
    assert [len(answer) for answer in answers] == counts
    np.testing.assert_allclose(np.concatenate(answers), expected, atol=1e-5)


def test_verify_answers_as_the_network_does_for_each_reference(client, network, tmp_path):
    for grey in (50, 60, 200):
        (tmp_path / f"{grey}.png").write_bytes(file(grey))
    asked = {"image": text(50), "references": [text(60), text(200)]}
    answer = client.post("/v1/verify", json=asked | {"together": True}).json()
    for grey, found in zip((60, 200), answer["answers"], strict=True):
        expected = network.verify(tmp_path / "50.png", tmp_path / f"{grey}.png")
        assert found["same"] == expected.same == (grey == 60) and answer["threshold"] == expected.threshold
        for name in ("score", "probability", "distance"):
            assert found[name] == pytest.approx(getattr(expected, name), abs=1e-5)
    assert answer["familiar"] == [True] * 3
    expected = network.verify([tmp_path / "60.png", tmp_path / "200.png"], tmp_path / "50.png")
    for name in ("same", "score", "probability", "distance"):
        assert answer["together"][name] == pytest.approx(getattr(expected, name), abs=1e-5)
    assert client.post("/v1/verify", json=asked).json() == answer | {"together": None}


def test_enrolled_identities_are_recognised_listed_and_removed(client, warmed):
    for name, greys in {"Zoë": [20, 25], "a/b?": [210]}.items():
        answer = client.post("/v1/enroll", json={"identity": name, "images": [text(grey) for grey in greys]})
        assert answer.json() == {"identity": name, "images": len(greys)}
    known, stranger = client.post("/v1/identify", json={"images": [text(22), text(115)], "k": 1}).json()["answers"]
    assert known["identity"] == "Zoë" and [each["identity"] for each in known["ranked"]] == ["Zoë"]
    assert stranger["identity"] is None and stranger["ranked"][0]["probability"] < 0.5
    (matches,) = client.post("/v1/search", json={"images": [text(20)], "k": 2}).json()["matches"]
    assert [each["identity"] for each in matches] == ["Zoë", "Zoë"] and matches[0]["score"] > matches[1]["score"]
    thumbnail = client.get(matches[0]["thumbnail"])
    assert Image.open(io.BytesIO(thumbnail.content)).format == "JPEG"
    listed = client.get("/v1/identities").json()["identities"]
    assert [(each["identity"], each["images"]) for each in listed] == [("Zoë", 2), ("a/b?", 1)]
    assert all(client.get(each["thumbnail"]).status_code == 200 for each in listed)
    assert Gallery(warmed[1], a_network()).identities() == {"Zoë": 2, "a/b?": 1}
    assert client.delete("/v1/identities/a%2Fb%3F").json() == {"identity": "a/b?", "images": 1}
    assert list(Gallery(warmed[1], a_network()).identities()) == ["Zoë"]
    refused(client.delete("/v1/identities/nobody"), 404, "/v1/identities")


def test_identities_are_renamed_and_merged(client):
    for name, grey in (("ann", 30), ("bob", 200)):
        client.post("/v1/enroll", json={"identity": name, "images": [text(grey)]})
    answer = client.post("/v1/rename", json={"identity": "ann", "to": " zoë "})
    assert answer.json() == {"identity": "zoë", "images": 1}
    assert client.post("/v1/rename", json={"identity": "zoë", "to": "bob"}).status_code == 200
    (only,) = client.get("/v1/identities").json()["identities"]
    assert (only["identity"], only["images"]) == ("bob", 2)
    assert client.post("/v1/identify", json={"images": [text(31)]}).json()["answers"][0]["identity"] == "bob"
    for name, to, status, word in (
        ("ann", "x", 404, "expected"),
        ("bob", " ", 400, "name"),
        ("bob", "bob ", 400, "an"),
    ):
        refused(client.post("/v1/rename", json={"identity": name, "to": to}), status, word)


def test_what_another_process_changed_is_known_at_the_next_change(client, warmed):
    client.post("/v1/enroll", json={"identity": "ann", "images": [text(30)]})
    other = Gallery(warmed[1], a_network())
    other.rename("ann", "bob")
    refused(client.delete("/v1/identities/ann"), 404, "/v1/identities")
    other.rename("bob", "eve")
    refused(client.post("/v1/rename", json={"identity": "bob", "to": "x"}), 404, "/v1/identities")
    other.rename("eve", "zoë")
    assert client.delete("/v1/identities/zoë").json() == {"identity": "zoë", "images": 1}


def test_inputs_are_what_the_network_sees(client):
    (seen,) = client.post("/v1/inputs", json={"images": [text(90, side=48)]}).json()["images"]
    image = Image.open(io.BytesIO(base64.b64decode(seen)))
    np.testing.assert_array_equal(np.asarray(image), np.asarray(Image.open(io.BytesIO(file(90)))))


@pytest.mark.parametrize("how", [{"invert": True}, {"ink": True}])
def test_uploads_are_prepared_as_files_are(how, tmp_path):
    path = on_paper(tmp_path)
    expected = images.read_all([path], 28, 1, **how)[0]
    np.testing.assert_array_equal(pixels(path.read_bytes(), "a.png", Inputs((28, 28, 1), **how), 10**6), expected)
    assert not np.array_equal(expected, images.read_all([path], 28, 1)[0])


@pytest.mark.skipif(importlib.util.find_spec("mtcnn") is None, reason="the extra faces is not installed")
def test_uploads_are_cropped_to_their_faces(tmp_path):
    with pytest.raises(Refusal, match="no face"):
        pixels(on_paper(tmp_path).read_bytes(), "a.png", Inputs((28, 28, 1), faces=True), 10**6)


def on_paper(folder):
    written = np.full((60, 80), 230, np.uint8)
    written[20:40, 30:34] = 20
    Image.fromarray(written).save(folder / "a.png")
    return folder / "a.png"


@pytest.mark.parametrize(
    "path,body,status,words",
    [
        ("embed", {"images": ["no base64!"]}, 400, ["images[0]", "base64"]),
        ("embed", {"images": [base64.b64encode(b"no image").decode()]}, 400, ["images[0]", "image"]),
        ("embed", {"images": []}, 422, ["images: expected at least 1, found 0"]),
        ("embed", {"images": ["aaaa"] * 33}, 422, ["images: expected at most 32, found 33"]),
        ("embed", {"image": "aaaa"}, 422, ["images", "required"]),
        ("embed", [], 422, ["the body: expected a JSON object"]),
        ("embed", {"images": ["aaaa", 3]}, 422, ["images[1]: expected a text"]),
        ("embed", {"images": ["aaaa"], "size": 3}, 422, ["size: there is no such field"]),
        ("embed", {"images": [""]}, 400, ["images[0] cannot be read as an image: it is empty"]),
        ("verify", {"image": text(1), "references": [text(1), "?"]}, 400, ["references[1]", "base64"]),
        ("identify", {"images": [text(1)], "k": 0}, 422, ["k: expected at least 1"]),
        ("search", {"images": [text(1)], "k": 2.5}, 422, ["k: expected a whole number"]),
        ("rename", {"identity": "ann", "to": ""}, 422, ["to: expected a name"]),
        ("identify", {"images": [text(1)]}, 409, ["empty", "enroll"]),
        ("enroll", {"images": [text(1)], "identity": "  "}, 400, ["identity", "name"]),
        ("enroll", {"images": [text(1), "aaaa"], "identity": "ann"}, 400, ["images[1]"]),
        ("nothing", {}, 404, ["/openapi.json"]),
    ],
)
def test_errors_say_what_was_expected(client, path, body, status, words):
    refused(client.post(f"/v1/{path}", json=body), status, *words)
    assert client.get("/v1/identities").json() == {"identities": []}


@pytest.mark.parametrize(
    "body,where", [(b"{'images'", "at character 1"), (b"", "the body"), (b'{"a": "\xff"}', "body")]
)
def test_a_body_that_is_no_json_is_told(client, body, where):
    answer = client.post("/v1/embed", content=body, headers={"content-type": "application/json"})
    refused(answer, answer.status_code, where, "expected a JSON object")
    assert answer.status_code in (400, 422)


def test_a_service_says_what_it_lacks(limited):
    client, body = limited(network=a_network(decided=False)), {"images": [text(1)]}
    refused(client.post("/v1/identify", json=body), 409, "--gallery")
    refused(client.get("/v1/identities"), 409, "--gallery")
    refused(client.post("/v1/verify", json={"image": text(1), "references": [text(2)]}), 409, "threshold")
    assert client.post("/v1/embed", json=body).status_code == 200
    assert client.get("/").status_code == 404  # The page is of `siamjax demo` alone.
    network = a_network()
    network._decision = dataclasses.replace(network.decision, usual=None)
    asked = {"image": text(1), "references": [text(2)], "together": True}
    refused(limited(network=network).post("/v1/verify", json=asked), 409, "several references together")


def test_images_and_bodies_have_limits(limited):
    client = limited(pixels=400, bytes=20_000)
    assert client.post("/v1/embed", json={"images": [text(1, side=20)]}).status_code == 200
    refused(client.post("/v1/embed", json={"images": [text(1, side=21)]}), 400, "441", "400")
    refused(client.post("/v1/embed", json={"images": ["a" * 20_000]}), 413, "20,000")

    def parts():
        yield from [b"a" * 9_000] * 3  # Its length is not said beforehand.

    refused(client.post("/v1/embed", content=parts(), headers={"content-type": "application/json"}), 413, "20,000")


def test_what_takes_too_long_is_refused(limited, network, monkeypatch):
    embed = network.embed
    monkeypatch.setattr(network, "embed", lambda images: (time.sleep(0.3), embed(images))[1])
    client = limited(answer=0.05)
    refused(client.post("/v1/embed", json={"images": [text(1)]}), 503, "0.05 s", "still starting", "/health")
    while client.get("/health").status_code != 200:
        time.sleep(0.05)
    refused(client.post("/v1/embed", json={"images": [text(1)]}), 503, "0.05 s", "busy; try later")


def test_a_change_that_takes_too_long_is_answered_when_it_is_made(network, tmp_path, monkeypatch):
    """It cannot be called back: refused, it would be asked for again, and made twice."""
    gallery = Gallery(tmp_path / "gallery", network)
    app = serve.application(network, gallery, limits=serve.Limits(answer=1))
    with TestClient(app, LOCAL, raise_server_exceptions=False) as client:
        while client.get("/health").status_code != 200:
            time.sleep(0.05)
        enroll = gallery.enroll
        monkeypatch.setattr(gallery, "enroll", lambda *given: (time.sleep(2), enroll(*given))[1])
        answer = client.post("/v1/enroll", json={"identity": "Zoë", "images": [text(20)]})
        assert (answer.status_code, answer.json()) == (200, {"identity": "Zoë", "images": 1})
        assert gallery.identities() == {"Zoë": 1}


def test_a_body_that_trickles_in_is_refused(limited):
    sent = []

    async def receive():
        await asyncio.sleep(0.02)
        return {"type": "http.request", "body": b"a", "more_body": True}

    async def send(message):
        sent.append(message)

    headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/v1/embed", "headers": headers, "query_string": b""}
    asyncio.run(limited(upload=0.1).app(scope, receive, send))
    assert sent[0]["status"] == 408 and "0.1 s" in json.loads(sent[1]["body"])["error"]


def test_too_many_requests_at_a_time_are_refused(limited):
    client = limited(requests=0)
    refused(client.get("/v1/network"), 503, "0 requests")
    assert "status" in client.get("/health").json()


def test_a_failure_is_told_to_the_log_only(limited, network, monkeypatch, caplog):
    def fail(images):
        raise OSError("/srv/secret/place is full")

    client = limited()
    monkeypatch.setattr(network, "embed", fail)
    refused(client.post("/v1/embed", json={"images": [text(1)]}), 500, "log")
    assert "/srv/secret/place is full" in caplog.text


def test_a_program_that_cannot_be_compiled_is_told(limited, network, monkeypatch, caplog):
    own = network.embed

    def embed(images):
        if len(images) == 8:
            raise MemoryError("too large")
        return own(images)

    monkeypatch.setattr(network, "embed", embed)
    client = limited()
    while (health := client.get("/health")).json()["status"] == "warming up":
        time.sleep(0.05)
    assert health.status_code == 503 and health.json() == {"status": "failed"} and "too large" in caplog.text
    assert client.post("/v1/embed", json={"images": [text(1)]}).status_code == 200


def test_the_end_waits_for_a_service_that_is_being_made():
    ended, asked = [], iter(["lifespan.startup", "lifespan.shutdown"])

    @contextlib.asynccontextmanager
    async def lifespan(_):
        yield
        ended.append("service")

    def make():
        time.sleep(0.3)
        return Starlette(lifespan=lifespan)

    async def receive():
        return {"type": next(asked)}

    async def send(message):
        ended.append(message["type"])

    asyncio.run(Starting(make, lambda: None)({"type": "lifespan"}, receive, send))
    assert ended == ["lifespan.startup.complete", "service", "lifespan.shutdown.complete"]


@pytest.mark.parametrize("damage", ['"histogram":', '"edges":', '"same":['])
def test_a_page_of_another_shape_has_no_histogram(tmp_path, damage):
    run, network = reporting.a_run(tmp_path), a_network()
    network.place, network.copies = str(run.folder), run.settings.evaluation.copies
    found = histogram_of(network)
    assert found is not None and sum(found.same) == 180
    page = run.figures.report / "index.html"
    before = page.read_text()
    assert damage in before
    page.write_text(before.replace(damage, damage.replace('":', 's":')))
    assert histogram_of(network) is None


def test_a_token_is_needed_for_everything_but_health(limited):
    client = limited(token=SECRET, host="http://service.example")
    assert client.get("/health").status_code in (200, 503)
    for path in ("/v1/network", "/metrics", "/openapi.json"):
        refused(client.get(path), 401, "Bearer")
        refused(client.get(path, headers={"authorization": "Bearer wrong"}), 401, "Bearer")
        assert client.get(path, headers={"authorization": f"Bearer {SECRET}"}).status_code == 200


@pytest.mark.parametrize("host,status", [("localhost", 200), ("127.0.0.1:9000", 200), ("[::1]:1", 200)])
def test_names_of_this_machine_are_served(client, host, status):
    assert client.get("/v1/network", headers={"host": host}).status_code == status


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example:8765", "127.0.0.1.evil.example", ""])
def test_a_name_that_resolves_to_this_machine_is_not_served(client, host):
    refused(client.get("/v1/network", headers={"host": host}), 421, "Host")


def test_pages_of_other_sites_are_refused(client):
    body = json.dumps({"identity": "ann", "images": [text(1)]})
    for origin in ("http://evil.example", "null", "http://localhost:1"):
        refused(client.post("/v1/enroll", content=body, headers={"origin": origin}), 403, "Origin")
    # A form of another site can send no JSON; without a type it must not pass for such.
    answer = client.post("/v1/enroll", content=body, headers={"content-type": "text/plain"})
    refused(answer, 422, "body")
    own = client.post("/v1/enroll", content=body, headers={"origin": LOCAL, "content-type": "application/json"})
    assert own.status_code == 200


def test_openapi_and_metrics_describe_the_service(client):
    paths = client.get("/openapi.json").json()["paths"]
    assert {"/v1/embed", "/v1/verify", "/v1/identify", "/v1/search", "/v1/enroll", "/v1/identities"} <= set(paths)
    client.post("/v1/embed", json={"images": [text(1)] * 5})
    client.get("/v1/thumbnails/name-of-someone.jpg")
    figures = client.get("/metrics").text
    assert re.search(r'^siamjax_requests_total\{path="/v1/embed",status="200"\} [1-9]', figures, re.MULTILINE)
    assert re.search(r"^siamjax_batch_images_sum [1-9]", figures, re.MULTILINE)
    assert "name-of-someone" not in figures
    refused(client.get("/docs"), 404)


@pytest.mark.parametrize("name", ["..%2Fgallery.json", "%2e%2e%2fgallery.json", "gallery.json", "a.jpg", "../.lock"])
def test_only_thumbnails_are_served(client, name):
    client.post("/v1/enroll", json={"identity": "ann", "images": [text(1)]})
    assert client.get(f"/v1/thumbnails/{name}").status_code in (404, 405)


def test_other_machines_are_served_with_a_token_only(tmp_path, capsys):
    assert cli.main(["serve", "--host", "0.0.0.0", "--port", "0"]) == 2
    assert "--token-file" in capsys.readouterr().err
    (tmp_path / "token").write_text("short")
    assert cli.main(["serve", "--token-file", str(tmp_path / "token")]) == 2
    assert "at least 16" in capsys.readouterr().err
    with serve.listen("127.0.0.1", 0) as taken:
        assert cli.main(["serve", "--port", str(taken.getsockname()[1])]) == 2
        assert "--port 0" in capsys.readouterr().err


PROGRAM = """
import sys, time
sys.path[:0] = sys.argv[1:]
from serving import a_network
from siamjax import serve
network = a_network()
own = network.embed
def slow(images):
    time.sleep(1.0)
    return own(images)
app = serve.application(network)
network.embed = slow
with serve.listen("127.0.0.1", 0) as listening:
    serve.run(app, listening, lambda: print(listening.getsockname()[1], flush=True))
print("ended", flush=True)
"""


def test_a_stopped_service_answers_what_it_has_begun():
    here = os.path.dirname(__file__)
    program = [sys.executable, "-c", PROGRAM, here, os.path.dirname(here)]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        port = int(process.stdout.readline())
        body = json.dumps({"images": [text(7)]}).encode()
        address = f"http://127.0.0.1:{port}"
        while True:
            try:
                urllib.request.urlopen(f"{address}/health")
                break
            except urllib.error.HTTPError:
                time.sleep(0.1)
        request = urllib.request.Request(f"{address}/v1/embed", body, {"content-type": "application/json"})
        with concurrent.futures.ThreadPoolExecutor() as pool:
            answer = pool.submit(lambda: json.load(urllib.request.urlopen(request)))
            time.sleep(0.4)
            process.send_signal(signal.SIGTERM)
            assert len(answer.result()["embeddings"]) == 1
        assert process.wait(timeout=30) == 0
        assert process.stdout.read() == "ended\n" and process.stderr.read() == ""


@pytest.mark.parametrize("seconds", [0, 1])
def test_an_interrupt_while_the_network_is_loaded_is_one_line(seconds):
    """As of all commands; once a service is ready, it is how it is ended."""
    command = [sys.executable, "-m", "siamjax", "demo", "--no-open", "--port", "0"]
    environment = os.environ | {"PYTHONPATH": os.path.dirname(os.path.dirname(__file__))}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=environment, text=True, **pipes) as process:
        assert process.stdout.readline().startswith("siamjax demo: http://127.0.0.1:")
        time.sleep(seconds)  # Before and after the page is served.
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130
        assert process.stderr.read() == "siamjax demo: interrupted\n"
