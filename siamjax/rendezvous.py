"""The processes of a run meet at process 0 before JAX starts: JAX would wait for a missing one, and then abort."""

import contextlib
import json
import socket
import time

_PAUSE = 0.2  # seconds between attempts to reach process 0
_ANSWER = 5.0  # seconds within which a connected process says who it is
_GO = "go"


def meet(coordinator: str, processes: int, process: int, timeout: float) -> None:
    """Returns on all processes once all are there; each calls it with its own number.

    Args:
      coordinator: "HOST:PORT", where process 0 listens meanwhile.
      processes: how many there are.
      process: the number of this one, 0..processes - 1.
      timeout: seconds to wait for the others.

    Raises:
      ValueError: a process is missing, two have the same number, or they count differently; all of them raise, and the
        message says which.
    """
    host, _, port = coordinator.rpartition(":")
    try:
        if process == 0:
            problem = _gather(int(port), processes, time.monotonic() + timeout, timeout)
        else:
            problem = _join(host.strip("[]"), int(port), processes, process, timeout)
    except OverflowError as error:
        raise ValueError(f"--coordinator={coordinator}: the port must be in 1..65535") from error
    if problem:
        raise ValueError(f"--coordinator={coordinator}: {problem}")


def _gather(port, processes, deadline, timeout):
    """Process 0: waits for all others, and sends all the same answer; returns what is wrong, or ""."""
    joined, reached, problem = set(), [], ""
    try:
        listening = socket.create_server(("", port), family=_family(), dualstack_ipv6=socket.has_dualstack_ipv6())
    except OSError as error:
        return f"process 0 cannot listen there ({error.strerror or error})"
    with listening, contextlib.ExitStack() as connections:
        while len(joined) < processes - 1 and not problem:
            listening.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                connection = connections.enter_context(listening.accept()[0])
                hello = _received(connection, min(_ANSWER, max(0.01, deadline - time.monotonic())))
                number, count = int(hello["process"]), int(hello["processes"])
            except (OSError, ValueError, KeyError, TypeError):  # Time is up; or a stranger.
                missing = [str(number) for number in range(1, processes) if number not in joined]
                if time.monotonic() >= deadline:
                    problem = (
                        f"process {', '.join(missing)} of {processes} did not join within {timeout:g} s; start the "
                        f"same command for each of --process=0..{processes - 1}, or wait longer with --join-timeout"
                    )
                continue
            if count != processes:
                problem = f"process {number} was started with --processes={count}, process 0 with {processes}"
            elif number in joined:
                problem = f"two processes were started with --process={number}; number them 0..{processes - 1}"
            joined.add(number)
            reached.append(connection)
        for connection in reached:
            with contextlib.suppress(OSError):
                _send(connection, {"answer": problem or _GO})
                connection.settimeout(_ANSWER)
                connection.recv(1)  # The others close first: the port is then free for JAX.
    return problem


def _join(host, port, processes, process, timeout):
    """Another process: reaches process 0, and returns its answer, or ""."""
    deadline = time.monotonic() + timeout
    while True:
        left = max(0.01, deadline - time.monotonic())
        try:
            with socket.create_connection((host, port), timeout=left) as connection:
                _send(connection, {"process": process, "processes": processes})
                answer = _received(connection, left + _ANSWER)["answer"]
                return "" if answer == _GO else answer
        except socket.gaierror as error:
            return f"the host is unknown ({error.strerror})"
        except (OSError, ValueError, KeyError, TypeError):
            if time.monotonic() >= deadline:
                return (
                    f"process 0 did not answer within {timeout:g} s; start it, check address and port, or wait "
                    "longer with --join-timeout"
                )
        time.sleep(_PAUSE)


def _family():
    return socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET


def _send(connection, message):
    connection.sendall(f"{json.dumps(message)}\n".encode())


def _received(connection, timeout):
    """The JSON object on the next line; raises ValueError or OSError if there is none within `timeout` seconds."""
    connection.settimeout(timeout)
    line = b""
    while not line.endswith(b"\n"):
        part = connection.recv(4096)
        if not part or len(line) > 4096:
            raise ValueError("no message")
        line += part
    return json.loads(line)
