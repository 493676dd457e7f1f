"""Devices and processes: the only file that names them.

Training state and data are replicated: every array carries a leading axis of local devices. Inside the compiled step,
`gather` and `mean` work over all devices of all processes.
"""

import functools

import jax
import numpy as np
import rich.progress
from jax import lax

AXIS = "devices"


def pmap(function, donate=(), devices=None):
    """`function` compiled to run on all devices (or on those given) at once, with `AXIS` named inside."""
    return jax.pmap(function, axis_name=AXIS, donate_argnums=donate, devices=devices)


def replicate(tree, devices=None):
    """Copies every array of `tree` to all local devices (or those given), once: [...] -> [local devices, ...]."""
    mesh = jax.sharding.Mesh(np.array(devices or jax.local_devices()), (AXIS,))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(AXIS))

    def place(x):
        x = x if isinstance(x, jax.Array) else np.asarray(x)
        copies = [jax.device_put(x[None], device) for device in mesh.devices]
        return jax.make_array_from_single_device_arrays((len(copies), *x.shape), sharding, copies)

    return jax.tree.map(place, tree)


def first(tree):
    """The first replica, on the host: [local devices, ...] -> NumPy [...]."""
    return jax.tree.map(lambda x: np.asarray(x.addressable_shards[0].data)[0], tree)


def own_share(tree):
    """This device's share of a whole batch, inside the step: [n, ...] -> [n / devices, ...]."""

    def share(x):
        size = x.shape[0] // lax.axis_size(AXIS)
        return lax.dynamic_slice_in_dim(x, lax.axis_index(AXIS) * size, size)

    return jax.tree.map(share, tree)


def gather(x):
    """The whole batch from every device's share, inside the step: [n / devices, ...] -> [n, ...]."""
    return lax.all_gather(x, AXIS, tiled=True)


def mean(tree):
    """The mean over devices, inside the step."""
    return lax.pmean(tree, AXIS)


def check_divisible(count: int, key: str):
    """Raises ValueError unless `count` images, as `key` of the configuration says, spread evenly over all devices."""
    devices = jax.device_count()
    if count % devices:
        raise ValueError(
            f"{key} = {count} images do not spread evenly over {devices} devices; make it a multiple of {devices}"
        )


def is_main_process() -> bool:
    """Whether this process is the one that writes logs and reports."""
    return jax.process_index() == 0


def map_chunks(function, arguments, items, chunk: int, description: str = "") -> np.ndarray:
    """`function(arguments, part)` over `items`, a tree of [n, ...], in equal chunks on all local devices -> [n, ...].

    `arguments` is copied to every device. The last chunk is padded by repeating its last item, so that one program
    serves all. `function` must be a long-lived object: its compiled program is kept under its identity. With a
    `description`, a progress bar shows it.
    """
    count = len(jax.tree.leaves(items)[0])
    devices = jax.local_device_count()
    chunk = -(-min(chunk, count) // devices) * devices
    arguments = replicate(arguments)
    parts = []
    starts = range(0, count, chunk)
    hidden = not (description and is_main_process())
    for start in rich.progress.track(starts, description, transient=True, disable=hidden):
        rows = np.minimum(np.arange(start, start + chunk), count - 1)
        part = jax.tree.map(lambda x, rows=rows: x[rows].reshape(devices, -1, *x.shape[1:]), items)
        out = np.asarray(_chunk_program(function)(arguments, part))
        parts.append(out.reshape(chunk, *out.shape[2:])[: count - start])
    return np.concatenate(parts)


@functools.lru_cache(maxsize=32)
def _chunk_program(function):
    return jax.pmap(function, devices=jax.local_devices())
