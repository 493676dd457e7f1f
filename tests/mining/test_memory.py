import functools

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec
from reference import mining as oracle

from siamjax import distances, mining

SIZE = 11

push = jax.jit(mining.push)
lookup = jax.jit(mining.lookup)


def batch(seed, n=4):
    """Embeddings, labels and items; items recur from batch to batch, and each has its own label."""
    rng = np.random.default_rng(seed)
    items = rng.permutation(7)[:n]
    return rng.normal(size=(n, 3)).astype(np.float32), items // 2, items


def compare(memory, loops):
    filled = [slot is not None for slot in loops.slots]
    np.testing.assert_array_equal(memory.filled, filled)
    assert memory.next == loops.next
    for j, slot in enumerate(loops.slots):
        if slot is not None:
            np.testing.assert_array_equal(memory.embedding[j], np.asarray(slot[0], np.float32))
            assert memory.label[j] == slot[1] and memory.item[j] == slot[2]


@hypothesis.settings(max_examples=25, deadline=None)
@hypothesis.given(
    st.lists(st.tuples(st.integers(0, 1000), st.lists(st.booleans(), min_size=4, max_size=4)), min_size=1, max_size=8)
)
def test_the_ring_and_what_is_found_in_it_equal_the_loops(pushes):
    memory, loops = mining.init_memory(SIZE, 3), oracle.Memory(SIZE)
    for seed, part in pushes:
        embeddings, labels, items = batch(seed)
        memory = push(memory, embeddings, labels, items, where=np.array(part))
        loops.push(embeddings, labels, items, part)
        compare(memory, loops)
        found = lookup(memory, labels, items, where=np.array(part))
        positive, negative = loops.lookup(labels, items, part)
        np.testing.assert_array_equal(found.positive, positive)
        np.testing.assert_array_equal(found.negative, negative)


@pytest.mark.parametrize("n", [SIZE, SIZE + 1, 3 * SIZE + 2])
def test_a_batch_of_at_least_the_memorys_size_leaves_its_last_items(n):
    memory, loops = mining.init_memory(SIZE, 3), oracle.Memory(SIZE)
    rng = np.random.default_rng(0)
    for _ in range(2):
        embeddings, labels, items = rng.normal(size=(n, 3)), rng.integers(3, size=n), rng.permutation(n)
        part = rng.random(n) < 0.9
        memory = push(memory, embeddings.astype(np.float32), labels, items, where=part)
        loops.push(embeddings, labels, items, part)
    compare(memory, loops)


def test_no_item_is_paired_with_itself_its_copy_or_an_empty_slot():
    memory = mining.init_memory(SIZE, 3)
    embeddings, labels, items = batch(1)
    empty = lookup(memory, labels, items)
    assert not np.any(empty.positive) and not np.any(empty.negative)
    for seed in (1, 2, 1, 3):
        embeddings, labels, items = batch(seed)
        memory = push(memory, embeddings, labels, items)
        far = distances.pairwise_euclidean(jnp.asarray(embeddings), memory.embedding)
        found = lookup(memory, labels, items)
        alike = np.asarray(memory.item)[None] == items[:, None]
        assert np.any(alike) and not np.any((found.positive | found.negative) & alike)
        assert not np.any((found.positive | found.negative)[:, ~np.asarray(memory.filled)])
        mined = jax.jit(mining.batch_hard)(far, found)
        valid = np.asarray(mined.valid)
        assert not np.any(alike[mined.anchor, mined.positive][valid])
        assert not np.any(alike[mined.anchor, mined.negative][valid])


def test_an_empty_memory_and_a_fully_masked_batch_give_no_triplets():
    memory = mining.init_memory(SIZE, 3)
    embeddings, labels, items = batch(1)
    same = push(memory, embeddings, labels, items, where=np.zeros(4, bool))
    jax.tree.map(np.testing.assert_array_equal, same, memory)
    mined = mining.batch_hard(jnp.zeros((4, SIZE)), lookup(memory, labels, items))
    assert not np.any(mined.valid) and mined.active_share == 0


def test_no_gradient_flows_into_the_memory():
    embeddings, labels, items = batch(5)

    def total(embeddings):
        memory = mining.push(mining.init_memory(SIZE, 3), embeddings, labels, items)
        return jnp.sum(memory.embedding)

    np.testing.assert_array_equal(jax.grad(total)(jnp.asarray(embeddings)), 0)


def test_embeddings_and_labels_keep_their_precision():
    with jax.enable_x64(True):
        memory = mining.init_memory(3, 2, jnp.float64)
        label = jnp.asarray([2**40])
        memory = mining.push(memory, jnp.asarray([[0.1, 1 / 3]]), label, label + 1)
        assert memory.embedding[0, 1] == 1 / 3 and memory.label[0] == 2**40 and memory.item[0] == 2**40 + 1


@pytest.mark.parametrize("which", ["labels", "items"])
def test_labels_and_items_too_wide_or_not_whole_numbers_are_refused(which):
    """Renumbered, they could not be compared with those of a later call."""
    memory = mining.init_memory(3, 2)
    for wrong, message in (
        (np.array([2**40]), "found 1099511627776, beyond JAX's int32"),
        (np.ones(1), "found float64"),
    ):
        numbers = {"labels": np.zeros(1, int), "items": np.zeros(1, int), which: wrong}
        with pytest.raises(ValueError, match=f"{which}: {message}"):
            mining.push(memory, jnp.zeros((1, 2)), **numbers)
        with pytest.raises(ValueError, match=f"{which}: {message}"):
            mining.lookup(memory, **numbers)


def loss(embeddings, labels, items, memory, axis_name=None):
    """Mean hinge of a batch, of which this is one device's share, against the memory."""
    if axis_name is not None:
        embeddings, labels, items = (jax.lax.all_gather(x, axis_name, tiled=True) for x in (embeddings, labels, items))
    far = distances.pairwise_squared_euclidean(embeddings, memory.embedding)
    mined = mining.semi_hard(far, mining.lookup(memory, labels, items), margin=1.0, fallback=True)
    d_ap, d_an = mined.distances(far)
    values = jnp.where(mined.valid, jnp.maximum(d_ap - d_an + 1.0, 0), 0)
    return jnp.sum(values) / jnp.maximum(jnp.sum(mined.valid), 1), mined.active_share


def step(embeddings, labels, items, memory, axis_name=None):
    memory = mining.push(memory, embeddings, labels, items, axis_name=axis_name)
    (value, share), gradient = jax.value_and_grad(loss, has_aux=True)(embeddings, labels, items, memory, axis_name)
    return value, share, gradient, memory


@pytest.mark.parametrize("spread", ["pmap", "shard_map"])
def test_eight_devices_equal_one(spread):
    rng = np.random.default_rng(4)
    memory = mining.push(
        mining.init_memory(40, 3),
        jnp.asarray(rng.normal(size=(37, 3)), jnp.float32),
        jnp.arange(37) % 5,
        jnp.arange(37),
    )
    inputs = jnp.asarray(rng.normal(size=(16, 3)), jnp.float32), jnp.arange(16) % 3, jnp.arange(16) + 30
    value, share, gradient, after = jax.jit(step)(*inputs, memory)
    assert 0 < share < 1 and value > 0
    on_axis = functools.partial(step, axis_name="device")
    if spread == "pmap":
        shares = jax.tree.map(lambda x: x.reshape(8, 2, *x.shape[1:]), inputs)
        spread_out = jax.pmap(on_axis, axis_name="device", in_axes=(0, 0, 0, None))(*shares, memory)
    else:
        mesh = jax.make_mesh((8,), ("device",), axis_types=(jax.sharding.AxisType.Auto,))
        share_of, whole = PartitionSpec("device"), PartitionSpec()

        def on_mesh(*arguments):
            value, share, gradient, memory = on_axis(*arguments)
            return jax.tree.map(lambda x: x[None], (value, share, gradient, memory))

        spread_out = jax.jit(
            jax.shard_map(on_mesh, mesh=mesh, in_specs=(share_of,) * 3 + (whole,), out_specs=share_of)
        )(*inputs, memory)
    values, shares, gradients, memories = jax.tree.map(np.asarray, spread_out)
    np.testing.assert_allclose(values, np.full(8, value), rtol=1e-5)
    np.testing.assert_allclose(shares, np.full(8, share), rtol=1e-6)
    # Each device's loss is the whole batch's, so its gradient reaches every share once from each device.
    np.testing.assert_allclose(gradients.reshape(16, 3) / 8, gradient, rtol=1e-4, atol=1e-6)
    for one, all_of_them in zip(jax.tree.leaves(after), jax.tree.leaves(memories), strict=True):
        for other in all_of_them:
            np.testing.assert_array_equal(other, one)
