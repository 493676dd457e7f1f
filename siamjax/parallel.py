"""Devices and processes: the only file that names them.

Training state and data are replicated: every array carries a leading axis of local devices. Inside the compiled step,
`gather` and `mean` work over all devices of all processes. Every process runs the same program; only the main one reads
and writes the run folder, and `from_main` passes on to the others what it found there.
"""

import builtins
import contextlib
import contextvars
import faulthandler
import functools
import math
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar, TypeVarTuple

import jax
import jax.flatten_util
import numpy as np
from jax import lax
from jax.experimental import multihost_utils

from siamjax import rendezvous
from siamjax.progress import Progress
from siamjax.types import Device

T = TypeVar("T")
Arrays = TypeVarTuple("Arrays")

AXIS = "devices"
_SMALL = 2**16  # elements; sending a smaller array costs little but latency
_portable = contextvars.ContextVar("portable", default=False)
DeviceError = jax.errors.JaxRuntimeError


def start(coordinator: str | None, processes: int | None, process: int | None, join_timeout: int = 60) -> None:
    """Joins this process to the others of a run; call it before anything uses a device.

    Args:
      coordinator: "HOST:PORT", where process 0 listens; or "auto", to read it from SLURM, a TPU pod or Open MPI.
      processes: how many there are; None with "auto".
      process: the number of this one, 0..processes - 1; None with "auto".
      join_timeout: seconds to wait for the others.

    Raises:
      ValueError: the three do not fit together, no cluster is found, process 0 cannot listen there, or a process is
        missing.
    """
    given = {"coordinator_address": coordinator, "num_processes": processes, "process_id": process}
    if coordinator == "auto" and processes is process is None:
        given = {}
    elif (
        coordinator is not None
        and processes is not None
        and process is not None
        and re.fullmatch(r".+:\d+", coordinator)
        and process < processes
    ):
        rendezvous.meet(coordinator, processes, process, join_timeout)
    else:
        raise ValueError(
            "several processes need --coordinator=HOST:PORT of process 0, --processes=N and --process=0..N-1; or "
            "--coordinator=auto alone, on SLURM, a TPU pod or Open MPI"
        )
    # JAX's preemption service would only record SIGTERM; without it, SIGTERM ends the process as usual.
    jax.config.update("jax_enable_preemption_service", False)
    # A process that is silent for a minute counts as dead. JAX then aborts the others, with a message that a dump of
    # Python's threads would bury.
    faulthandler.disable()
    try:
        jax.distributed.initialize(**given, initialization_timeout=join_timeout, heartbeat_timeout_seconds=60)
    except (ValueError, RuntimeError) as error:
        cause = "neither SLURM, a TPU pod nor Open MPI found; give HOST:PORT" if not given else "cannot start there"
        raise ValueError(f"--coordinator={coordinator}: {cause} ({error})") from error
    with _silent():
        multihost_utils.broadcast_one_to_all(np.uint32(0))
        jax.block_until_ready(pmap(mean)(replicate(np.float32(0))))


@contextlib.contextmanager
def _silent():
    """Discards what libraries write to standard output: Gloo reports its connections there."""
    sys.stdout.flush()
    kept = os.dup(1)
    with open(os.devnull, "wb") as nothing:
        os.dup2(nothing.fileno(), 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def explain(error: Exception) -> str:
    """The message of `error`; if JAX raised it among several processes, with the likely cause and what to do."""
    raised_by_jax = isinstance(error, DeviceError) or re.match("[A-Z_]+: ", str(error))
    if not raised_by_jax or jax.process_count() == 1:
        return str(error)
    return (
        f"process {jax.process_index()} of {jax.process_count()} stopped, most likely because another one ended: "
        f"its output says why. Run the same command on all of them to resume from the latest checkpoint ({error})"
    )


def pmap(function: Callable, donate: tuple[int, ...] = (), devices: Sequence[Device] | None = None) -> Callable:
    """`function` compiled to run on all devices (or on those given) at once, with `AXIS` named inside."""
    return jax.pmap(function, axis_name=AXIS, donate_argnums=donate, devices=devices)


def replicate(tree: Any, devices: Sequence[Device] | None = None) -> Any:
    """Copies every array of `tree` to all local devices (or those given), once: [...] -> [local devices, ...]."""
    devices = devices or jax.local_devices()
    sharding = _over(devices)

    def place(x):
        x = x if isinstance(x, jax.Array) else np.asarray(x)
        copies = [jax.device_put(x[None], device) for device in devices]
        return jax.make_array_from_single_device_arrays((len(copies), *x.shape), sharding, copies)

    return jax.tree.map(place, tree)


def own_items(count: int) -> slice:
    """Which of the `count` items of a whole batch are for the devices of this process."""
    each, devices = count // jax.device_count(), jax.local_device_count()
    start = jax.process_index() * devices * each
    return slice(start, start + devices * each)


def spread(tree: Any) -> Any:
    """Gives each local device its share: [own items, ...] -> [local devices, own items / local devices, ...]."""
    devices = jax.local_devices()
    sharding = _over(devices)
    return jax.tree.map(lambda x: jax.device_put(x.reshape(len(devices), -1, *x.shape[1:]), sharding), tree)


def _over(devices):
    return jax.sharding.NamedSharding(jax.sharding.Mesh(np.array(devices), (AXIS,)), jax.sharding.PartitionSpec(AXIS))


def on_cpu() -> bool:
    """Whether the devices are CPUs, and what is computed is computed by them; see `portable`."""
    return jax.default_backend() == "cpu" and not is_portable()


@contextlib.contextmanager
def portable() -> Iterator[None]:
    """What is traced here is for other programs and devices: plain operations, not what XLA is fast at on a CPU."""
    token = _portable.set(True)
    try:
        yield
    finally:
        _portable.reset(token)


def is_portable() -> bool:
    """Whether it is called within `portable`."""
    return _portable.get()


def host_device() -> Device:
    """The CPU as a device, also where there is a GPU or TPU."""
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError as error:
        raise ValueError("JAX does not see the CPU; add it to JAX_PLATFORMS, as in JAX_PLATFORMS=cuda,cpu") from error


def steps_at_once(*every: int) -> int:
    """How many steps to compile into one program, where something is due every so many steps.

    On a CPU one, since XLA runs loops slowly there; elsewhere as many as fit, up to 32.
    """
    if on_cpu():
        return 1
    common = math.gcd(*every)
    return next(count for count in range(min(common, 32), 0, -1) if common % count == 0)


def first(tree: Any) -> Any:
    """The first replica, on the host: [local devices, ...] -> NumPy [...]."""
    return jax.tree.map(lambda x: np.asarray(x.addressable_shards[0].data)[0], tree)


def own_share(tree: Any) -> Any:
    """This device's share of a whole batch, inside the step: [n, ...] -> [n / devices, ...]."""

    def share(x):
        size = x.shape[0] // lax.axis_size(AXIS)
        return lax.dynamic_slice_in_dim(x, lax.axis_index(AXIS) * size, size)

    return jax.tree.map(share, tree)


def gather(x: jax.Array) -> jax.Array:
    """The whole batch from every device's share, inside the step: [n / devices, ...] -> [n, ...]."""
    return lax.all_gather(x, AXIS, tiled=True)


def whole_batch(axis_name: str | None, *arrays: *Arrays) -> tuple[*Arrays]:
    """This device's shares [n / devices, ...] -> the whole batch's arrays [n, ...]; unchanged without an `axis_name`.

    Arrays may be None. Every device then computes the whole batch's loss, so the caller takes the mean of the gradients
    over the devices (`lax.pmean`): that is the gradient on one device.
    """
    if axis_name is None:
        return arrays
    return jax.tree.map(lambda x: lax.all_gather(x, axis_name, tiled=True), arrays)


def mean(tree: T) -> T:
    """The mean over devices of a tree of floats, inside the step; small arrays are sent together, as one."""
    if lax.axis_size(AXIS) == 1:
        return tree
    leaves, structure = jax.tree.flatten(tree)
    small = [number for number, leaf in enumerate(leaves) if leaf.size <= _SMALL]
    together, apart = jax.flatten_util.ravel_pytree([leaves[number] for number in small])
    leaves = [lax.pmean(leaf, AXIS) if leaf.size > _SMALL else None for leaf in leaves]
    for number, leaf in zip(small, apart(lax.pmean(together, AXIS)), strict=True):
        leaves[number] = leaf
    return jax.tree.unflatten(structure, leaves)


def check_divisible(count: int, key: str) -> None:
    """Raises ValueError unless `count` images, called `key` in the message, can be split evenly over all devices."""
    devices = jax.device_count()
    if count % devices:
        raise ValueError(
            f"{key} = {count} images cannot be split evenly over {devices} devices; make it a multiple of {devices}"
        )


def is_alone() -> bool:
    """Whether there is only this process."""
    return jax.process_count() == 1


def is_main_process() -> bool:
    """Whether this process is the one that reads and writes the run folder, and prints."""
    return jax.process_index() == 0


def from_main(function: Callable[[], T]) -> T:
    """What `function()` returns or raises on the main process, on all of them; only the main one calls it.

    All processes must call this. Values are dicts and lists of numbers, texts, arrays and None: what is sent cannot run
    code. An error arrives as the built-in exception that it is or derives from.
    """
    if is_alone():
        return function()
    from flax import serialization  # It takes a third of a second to import.

    value, error, sent = None, None, b""
    if is_main_process():
        try:
            value = function()
            sent = serialization.msgpack_serialize({"value": value})
        except Exception as raised:
            error = raised
            sent = serialization.msgpack_serialize({"error": _described(raised)})
    content = np.frombuffer(sent, np.uint8)
    size = multihost_utils.broadcast_one_to_all(np.uint32(len(content)))
    content = multihost_utils.broadcast_one_to_all(content if is_main_process() else np.zeros(size, np.uint8))
    if not is_main_process():
        received: Any = serialization.msgpack_restore(content.tobytes())
        value = received.get("value")
        if "error" in received:
            kind, message = received["error"]
            error = getattr(builtins, kind)(message)
    if error is not None:
        raise error
    return value  # type: ignore


def _described(error):
    """The name of the closest built-in exception that is made from a message, and the message."""
    kinds = [kind for kind in type(error).__mro__ if kind.__module__ == "builtins"]
    kind = ValueError if isinstance(error, UnicodeError) else kinds[0]
    return [kind.__name__, str(error).encode(errors="replace").decode()]


def main_first(function: Callable[[], T]) -> T:
    """Calls `function` on every process, on the main one first: it prepares files that the others may share."""
    done = []
    from_main(lambda: done.append(function()))
    return done[0] if done else function()


def padded(items: T, count: int | None = None) -> T:
    """A tree of arrays [n, ...] with the last item of each repeated up to `count`, or to the next of few sizes.

    Programs are compiled per shape: padded like this, data of any size needs only a few. [0, ...] stays.
    """
    n = len(jax.tree.leaves(items)[0])
    rows = np.minimum(np.arange(_size(n) if count is None else count), n - 1)
    return jax.tree.map(lambda x: np.asarray(x)[rows], items) if 0 < n < len(rows) else items


def _size(count):
    """The smallest size of at least `count`: the powers of two and, from 256 on, three more between two of them."""
    power = 1 << (count - 1).bit_length() if count else 0
    step = power // 8 if power > 256 else max(power, 1)
    return -(-count // step) * step


def map_chunks(
    function: Callable[[Any, Any], jax.Array], arguments: Any, items: Any, chunk: int, bar: Progress | None = None
) -> np.ndarray:
    """`function(arguments, part)` over `items`, a tree of [n, ...], in equal chunks, shared by all devices -> [n, ...].

    All processes must pass the same, and all get the same. `arguments` is copied to every device. Chunks are `padded`,
    so that a few programs serve every n; the caller should pad `arguments` that grow with the data, too. `function`
    must be a long-lived object: its compiled programs are cached by its identity. `bar` counts the items.
    """
    count = len(jax.tree.leaves(items)[0])
    if not count:
        one = jax.tree.map(lambda x: jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype), items)
        of_one = jax.eval_shape(function, arguments, one)
        return np.zeros((0, *of_one.shape[1:]), of_one.dtype)
    devices = jax.device_count()
    chunk = devices * min(-(-chunk // devices), _size(-(-count // devices)))
    arguments = replicate(arguments)
    parts = []
    for start in range(0, count, chunk):
        part = padded(jax.tree.map(lambda x, start=start: _rows(x, start, min(start + chunk, count)), items), chunk)
        parts.append(first(_chunk_program(function)(arguments, replicate(part)))[: count - start])
        if bar is not None:
            bar.advance(len(parts[-1]))
    return np.concatenate(parts)


def _rows(items, start, end):
    """Items `start` to `end`, on the host: of an array a view; others may be read on access, and take numbers."""
    return items[start:end] if isinstance(items, np.ndarray) else np.asarray(items[np.arange(start, end)])


@functools.lru_cache(maxsize=32)
def _chunk_program(function):
    return pmap(lambda arguments, part: gather(function(arguments, own_share(part))))
