"""How steps come by their data: it lies on the devices, or is read as the steps go along.

A feed is (state, count) -> (state, metrics): it takes `count` steps from replicated `state` on, and gives the last
one's metrics. The state is donated.
"""

import functools

import jax
from jax import lax

from siamjax import parallel, sampling
from siamjax.training.step import TrainingData, step_keys

_THREADS = 2  # that read images
_BATCHES_AHEAD = 4  # read, and waiting for their step


def resident(step, data: TrainingData, key):
    """A feed of `step`, see `train_step`, on data that is laid on every device once; `key` is the run's."""
    data, key = parallel.replicate((data, key))

    @functools.cache
    def program(count):
        return parallel.pmap(functools.partial(_several, step, count=count), donate=(0,))

    return lambda state, count: program(count)(state, data, key)


def _several(step, state, data, key, *, count):
    """`count` steps as one program, with the last one's metrics."""
    if count == 1:
        return step(state, data, key)
    state, metrics = lax.scan(lambda state, _: step(state, data, key), state, length=count)
    return state, jax.tree.map(lambda values: values[-1], metrics)


def streamed(step, sample, index: sampling.Index, images, key, first: int, last: int):
    """A feed of the steps `first` to `last` - 1, whose images are read while the steps before them run.

    The numbers are those of `resident`: a step's batch depends on the run's key and its own number alone, so that a run
    goes on anywhere. Every process reads its own share.

    Args:
      step: see `train_step`; its `sample` and `fetch` are `given_batch` and `given_images`.
      sample: (key, index) -> the whole `Batch`, called on the host.
      index: tables of the data set.
      images: uint8 [n, h, w, c], an array or `data.Images`.
      key: the run's PRNG key.
      first: the number of the first step.
      last: one more than that of the last step.

    Raises:
      ValueError: JAX was told to do without the CPU.

    What `images` raises when it is read comes up at the step that needs it.
    """
    import grain  # It takes a third of a second to import.

    cpu = parallel.host_device()
    host_key, host_index = jax.device_put((key, index), cpu)
    draw = jax.jit(lambda number: sample(step_keys(host_key, number)[0], host_index))

    def load(number):
        with jax.default_device(cpu):
            batch = jax.device_get(draw(number))
        return batch, images[batch.item[parallel.own_items(len(batch.item))]]

    options = grain.ReadOptions(num_threads=_THREADS, prefetch_buffer_size=_BATCHES_AHEAD)
    loaded = iter(grain.MapDataset.range(first, last).map(load).to_iter_dataset(options))

    def placed():
        for batch, share in loaded:
            yield TrainingData(index=parallel.replicate(batch), images=parallel.spread(share))

    def following():
        try:
            return next(batches, None)
        except Exception as error:
            return error

    program = parallel.pmap(step, donate=(0,))
    key, batches = parallel.replicate(key), placed()
    ahead = [following()]

    def feed(state, count):
        for _ in range(count):
            data = ahead.pop()
            if isinstance(data, Exception):
                raise data
            state, metrics = program(state, data, key)
            ahead.append(following())  # On its way to the devices while they work.
        return state, metrics

    return feed


def replanned(step, plan, batch_of, images, key, first: int, every: int):
    """A feed whose batches are planned anew, by the network as it is then, before every step that `every` divides.

    Args:
      step: see `train_step`; its `sample` is `given_batch`.
      plan: (replicated state, number of the step) -> int32 [every, images], the images of each step.
      batch_of: int32 [images] -> `Batch`.
      images: uint8 [n, h, w, c], laid on every device once.
      key: the run's PRNG key.
      first: the number of the first step, a multiple of `every`: a plan in use is not saved.
    """
    images, key = parallel.replicate((images, key))
    program = parallel.pmap(step, donate=(0,))
    number, items = first, None

    def feed(state, count):
        nonlocal number, items
        for _ in range(count):
            if number % every == 0:
                items = plan(state, number)
            batch = parallel.replicate(batch_of(items[number % every]))
            state, metrics = program(state, TrainingData(index=batch, images=images), key)
            number += 1
        return state, metrics

    return feed


def given_batch(key, batch):
    """The `sample` of a step whose batch was drawn on the host."""
    return batch


def given_images(key, images, item):
    """The `fetch` of a streamed step: its images are the device's share already."""
    return images
