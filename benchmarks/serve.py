"""How fast a service answers: /v1/embed from one process, for 1, 8 and 32 clients that ask one after another.

    python benchmarks/serve.py [NETWORK] [--seconds 10]

Prints p50 and p99 in ms and embeddings per second, and compared with them what the network does from Python: one image
at a time, and 32. The clients are threads of this process, on the same cores as the service.
"""

import argparse
import base64
import http.client
import io
import json
import os
import subprocess
import sys
import threading
import time

from siamjax import host

os.environ.update(host.settings(os.environ))  # As the command runs.

import numpy as np
from PIL import Image

from siamjax.network import Network


def image(shape: tuple[int, ...], seed: int) -> bytes:
    """A random image file of an image's `shape` (h, w, c)."""
    pixels = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels.squeeze(-1) if shape[-1] == 1 else pixels).save(buffer, "png")
    return buffer.getvalue()


def ask(port: int, body: bytes, until: float, times: list[float]) -> None:
    """Asks again and again over one connection, until this time, and notes how long each answer took, in s."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    while time.perf_counter() < until:
        started = time.perf_counter()
        connection.request("POST", "/v1/embed", body, {"content-type": "application/json"})
        answer = connection.getresponse()
        content = answer.read()
        assert answer.status == 200, content
        times.append(time.perf_counter() - started)


def measured(port: int, bodies: list[bytes], seconds: float) -> list[float]:
    """The times of all answers to clients that ask at the same time, one for each body."""
    times, until = [], time.perf_counter() + seconds
    threads = [threading.Thread(target=ask, args=(port, body, until, times)) for body in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return times


def library(network: Network, count: int, seconds: float) -> float:
    """Embeddings per second of `count` images at a time, from Python."""
    images = np.zeros((count, *network.inputs.shape), np.uint8)
    network.embed(images)
    started, calls = time.perf_counter(), 0
    while time.perf_counter() < started + seconds:
        network.embed(images)
        calls += 1
    return calls * count / (time.perf_counter() - started)


def main() -> None:
    """Starts a service, and measures it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("network", nargs="?", default="omniglot-fast")
    parser.add_argument("--seconds", type=float, default=10)
    options = parser.parse_args()
    network = Network.load(options.network)
    for count in (1, 32):
        print(f"library, {count:2d} at a time: {library(network, count, options.seconds):8.1f} embeddings/s")
    command = [sys.executable, "-m", "siamjax", "serve", options.network, "--port", "0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        port = int(json.loads(process.stdout.readline())["address"].rpartition(":")[2])
        bodies = [
            json.dumps({"images": [base64.b64encode(image(network.inputs.shape, seed)).decode()]}).encode()
            for seed in range(32)
        ]
        measured(port, bodies, 1)  # The first answers come once the programs are compiled.
        for clients in (1, 8, 32):
            times = measured(port, bodies[:clients], options.seconds)
            p50, p99 = 1000 * np.percentile(times, [50, 99])
            rate = len(times) / options.seconds
            print(f"{clients:2d} clients: p50 {p50:7.1f} ms, p99 {p99:7.1f} ms, {rate:8.1f} embeddings/s")
        process.terminate()


if __name__ == "__main__":
    main()
