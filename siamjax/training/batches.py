"""Three ways to make the batches of a run: from images in device memory, streamed from disk, or planned by the network.

Each gives `Batches`. A batch depends on the run's key and the number of its step alone, so that a run resumes anywhere
and the number of devices changes nothing.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from siamjax import augment as augmentation
from siamjax import extras, parallel, sampling
from siamjax.streams import OfImage, OfStep
from siamjax.training.types import Augment, Batch, Batches, Fetch, Sample
from siamjax.types import Device

_THREADS = 2  # that read images
_BATCHES_AHEAD = 4  # read before their step


def stream_key(key: jax.Array, number: int | jax.Array, stream: OfStep) -> jax.Array:
    """The key of a stream of step `number`; `key` is the run's."""
    return jax.random.split(jax.random.fold_in(key, number), len(OfStep))[stream]


def resident(
    sample: Sample,
    fetch: Fetch,
    augment: Augment,
    *,
    index: Any,
    source: Any,
    images: int,
    devices: Sequence[Device] | None = None,
) -> Batches:
    """Batches drawn in the step from data stored on every device.

    Args:
      sample: (key, index) -> `Drawn`, the whole batch; such as `sampling.identities`.
      fetch: (key, source, item [m]) -> uint8 images [m, h, w, c].
      augment: (keys [m], images float [m, h, w, c]) -> images.
      index: tables of the data set.
      source: what `fetch` reads from, such as all images uint8 [n, h, w, c]; or None where it draws them.
      images: how many images a batch has.
      devices: None for all local ones.
    """
    stored = parallel.replicate((index, source), devices)

    def make_batch(inputs, key, number):
        index, source = inputs
        drawn = sample(stream_key(key, number, OfStep.SAMPLE), index)
        item = parallel.own_share(drawn.item)
        return _distorted(drawn, fetch(stream_key(key, number, OfStep.FETCH), source, item), augment, key, number)

    return Batches(lambda state, number: stored, make_batch, images, constant=True)


def streamed(
    sample: Sample,
    augment: Augment,
    *,
    index: Any,
    read: Any,
    images: int,
    key: jax.Array,
    first: int,
    last: int,
) -> Batches:
    """The batches of `resident` for the steps `first` to `last` - 1, whose images are read while earlier steps run.

    Every process reads its own share. Errors of `read` are raised at the step that needs the image.

    Args:
      sample, augment, index, images: as for `resident`; `sample` runs on the host.
      read: uint8 [n, h, w, c], an array or `data.Images`.
      key: the run's PRNG key.
      first: the number of the first step.
      last: one more than that of the last step.

    Raises:
      ValueError: JAX does not see the CPU.
    """
    with extras.needed_for("streaming"):
        import grain  # It takes a third of a second to import.

    cpu = parallel.host_device()
    host_key, host_index = jax.device_put((key, index), cpu)
    draw = jax.jit(lambda number: sample(stream_key(host_key, number, OfStep.SAMPLE), host_index))

    def load(number):
        with jax.default_device(cpu):
            drawn = jax.device_get(draw(number))
        return drawn, read[drawn.item[parallel.own_items(len(drawn.item))]]

    options = grain.ReadOptions(num_threads=_THREADS, prefetch_buffer_size=_BATCHES_AHEAD)
    loaded = iter(grain.MapDataset.range(first, last).map(load).to_iter_dataset(options))

    def inputs(state, number):
        drawn, share = next(loaded)
        return parallel.replicate(drawn), parallel.spread(share)

    def make_batch(inputs, key, number):
        drawn, share = inputs
        return _distorted(drawn, share, augment, key, number)

    return Batches(inputs, make_batch, images, constant=False)


def planned(
    plan: Callable[[Any, int], np.ndarray],
    drawn_of: Callable[[np.ndarray], sampling.Drawn],
    augment: Augment,
    *,
    source: Any,
    images: int,
    every: int,
) -> Batches:
    """Batches planned with the current network, for `every` steps at a time.

    Args:
      plan: (replicated state, number of the step) -> int32 [every, images], the images of each step.
      drawn_of: int32 [images] -> `Drawn`.
      augment: as for `resident`.
      source: uint8 [n, h, w, c], stored on every device.
      images: how many images a batch has.
      every: steps of a plan. A plan in use is not saved: a run resumes only from a multiple of it.
    """
    stored, items = parallel.replicate(source), np.empty((0, images), np.int32)

    def inputs(state, number):
        nonlocal items
        if number % every == 0:
            items = plan(state, number)
        return parallel.replicate(drawn_of(items[number % every])), stored

    def make_batch(inputs, key, number):
        drawn, source = inputs
        return _distorted(drawn, source[parallel.own_share(drawn.item)], augment, key, number)

    return Batches(inputs, make_batch, images, constant=False)


def _distorted(drawn: sampling.Drawn, images: jax.Array, augment: Augment, key: jax.Array, number: jax.Array) -> Batch:
    """The `Batch` of this device's uint8 `images`, distorted."""
    augment_key = stream_key(key, number, OfStep.AUGMENT)
    keys = jax.random.split(augment_key, len(drawn.item))
    keys, label, turn, variant = parallel.own_share((keys, drawn.label, drawn.turn, drawn.variant))
    images = augmentation.scaled(images if turn is None else augmentation.turn(images, turn))
    if variant is not None:
        # All images of an identity share a key, so that a variant is an identity, too.
        varied = augmentation.vary(jax.vmap(jax.random.fold_in, (None, 0))(augment_key, label), images)
        images = jnp.where(variant[:, None, None, None], varied, images)
    noise = jax.vmap(jax.random.fold_in, (0, None))(keys, OfImage.NOISE)
    return Batch(images=augment(keys, images), noise=noise, label=drawn.label, group=drawn.group)
