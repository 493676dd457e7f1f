"""Processes meet before JAX starts; whoever is missing, or there twice, is named. Threads stand for processes."""

import concurrent.futures
import socket

import pytest

from siamjax import rendezvous


def meet(*others, count=3, timeout=1.0):
    """What each of process 0 and `others`, (number, processes), is told."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{free.getsockname()[1]}"

    def one(number, processes):
        try:
            return rendezvous.meet(place, processes, number, timeout)
        except ValueError as error:
            return str(error).removeprefix(f"--coordinator={place}: ")

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        return list(pool.map(lambda each: one(*each), [(0, count), *others]))


def test_all_return_once_all_are_there():
    assert meet((1, 3), (2, 3), timeout=20) == [None] * 3


def test_a_missing_process_is_named_by_all_others():
    told = meet((2, 3))
    assert told[0] == told[1] and told[0].startswith("process 1 of 3 did not join within 1 s; start the same command")


@pytest.mark.parametrize(
    "others,words",
    [
        ([(1, 3), (1, 3)], "two processes were started with --process=1; number them 0..2"),
        ([(1, 4)], "process 1 was started with --processes=4, process 0 with 3"),
    ],
)
def test_numbers_that_do_not_fit_together_are_named_at_once(others, words):
    told = meet(*others, timeout=20)
    assert told[0] == words and words in told[1:]


def test_without_process_0_the_others_say_so():
    with pytest.raises(ValueError, match=r"--coordinator=127.0.0.1:9: process 0 did not answer within 0.3 s"):
        rendezvous.meet("127.0.0.1:9", 2, 1, 0.3)


def test_a_port_that_is_taken_is_named():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ValueError, match="process 0 cannot listen there"):
            rendezvous.meet(f"127.0.0.1:{port}", 2, 0, 1)


def test_strangers_at_the_port_do_not_count():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        main = pool.submit(rendezvous.meet, f"127.0.0.1:{port}", 2, 0, 20)
        while True:
            try:
                with socket.create_connection(("127.0.0.1", port)) as stranger:
                    stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
                break
            except OSError:
                continue
        rendezvous.meet(f"127.0.0.1:{port}", 2, 1, 20)
        assert main.result() is None
