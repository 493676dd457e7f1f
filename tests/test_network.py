"""Embeddings and scores of a real model, and chance accuracy of one that has learned nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from siamjax import encoders, heads
from siamjax.data import Images
from siamjax.evaluation import one_shot
from siamjax.network import Inputs, Network, _programs
from siamjax.training import state

MODEL = state.Model(encoders.make("conv4", 4, 8, "float32", axis_name="devices"), heads.WeightedL1())


@pytest.fixture(scope="module")
def weights():
    start = state.create(MODEL, jax.random.key(0), (8, 8, 1), optax.identity())
    return start.params, start.batch_stats


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (61, 8, 8, 1)).astype(np.uint8)


def test_embeddings_do_not_depend_on_chunks_or_other_images(weights, images):
    embeddings = Network(MODEL, *weights, chunk=16).embed(images)
    assert embeddings.shape == (61, 8) and embeddings.dtype == np.float32
    np.testing.assert_allclose(Network(MODEL, *weights, chunk=64).embed(images), embeddings, atol=1e-5)
    np.testing.assert_allclose(Network(MODEL, *weights).embed(images[7:8]), embeddings[7:8], atol=1e-5)


def test_images_that_are_read_on_access_are_read_once(weights, images):
    reads = []

    def read(numbers):
        reads.extend(numbers.tolist())
        return images[numbers]

    network = Network(MODEL, *weights, chunk=16)
    np.testing.assert_array_equal(network.embed(Images(read, images.shape)), network.embed(images))
    assert reads == list(range(61))


def test_scores_are_the_heads_mean_logit_of_the_shots(weights, images, drawn):
    network = Network(MODEL, *weights)
    embeddings = network.embed(images)
    pairs = np.array([[0, 5], [3, 2], [60, 1]], np.int32)
    head = {"params": weights[0]["head"]}
    expected = MODEL.head.apply(head, jnp.asarray(embeddings[pairs[:, 0]]), jnp.asarray(embeddings[pairs[:, 1]]))
    np.testing.assert_allclose(network.score_pairs(embeddings, pairs), expected, rtol=1e-5)
    rng = np.random.default_rng(1)
    trials = one_shot.Trials(
        support=rng.integers(61, size=(5, 4, 3)).astype(np.int32),
        query=rng.integers(61, size=(5, 2)).astype(np.int32),
        answer=np.zeros((5, 2), np.int32),
    )
    scores = network.score_trials(embeddings, trials.query, trials.support)
    assert scores.shape == (5, 2, 4)
    shots = [(embeddings[trials.query[3, 1]], embeddings[image]) for image in trials.support[3, 2]]
    expected = np.mean([MODEL.head.apply(head, jnp.asarray(a[None]), jnp.asarray(b[None]))[0] for a, b in shots])
    np.testing.assert_allclose(scores[3, 1, 2], expected, rtol=1e-4)


class Doubled(heads.Aligned):
    """A head of one's own, derived from another."""

    def __call__(self, a, b):
        return 2 * super().__call__(a, b)


def of_maps(head):
    """A network with embeddings that are maps of 3×3 places and 5 channels."""
    model = state.Model(encoders.make("conv4", 4, 45, "float32", axis_name="devices"), head)
    start = state.create(model, jax.random.key(0), (8, 8, 1), optax.identity())
    return Network(model, start.params, start.batch_stats)


@pytest.mark.parametrize("count", [61, 300])
def test_many_pairs_and_trials_score_as_all_against_all_do(count, monkeypatch):
    """`aligned` prepares the embeddings of many pairs once; all against all, it multiplies matrices."""
    monkeypatch.setattr(_programs, "_MANY", 20_000)
    network, rng = of_maps(heads.Aligned(cells=3)), np.random.default_rng(count)
    embeddings = rng.normal(size=(count, 45)).astype(np.float32)
    everything = network.score_all(embeddings, embeddings)
    pairs = rng.integers(count, size=(30_000, 2))
    assert _programs.pairs_program(network.model, embeddings, len(pairs)) == ("many_pairs", 20_000)
    np.testing.assert_allclose(network.score_pairs(embeddings, pairs), everything[tuple(pairs.T)], rtol=1e-4, atol=1e-4)
    query, support = rng.integers(count, size=(60, 1)), rng.integers(count, size=(60, 20, 5))
    expected = everything[query[:, :, None, None], support[:, None]].mean(axis=3)
    scores = network.score_trials(embeddings, query, support)
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-4)


def test_many_pairs_of_two_towers_and_of_a_derived_head_score_as_few():
    rng = np.random.default_rng(0)
    pairs = rng.integers(40, size=(5000, 2))
    for head, shape in ((heads.Aligned(cells=3), (40, 2, 45)), (Doubled(cells=3), (40, 45))):
        network, embeddings = of_maps(head), rng.normal(size=shape).astype(np.float32)
        few = network.score_pairs(embeddings, pairs[:50])
        np.testing.assert_allclose(network.score_pairs(embeddings, pairs)[:50], few, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("query,support", [((3, 1), (3, 4)), ((1, 1), (3, 4, 2)), ((3,), (3, 4, 2))])
def test_trials_of_other_shapes_are_refused(weights, query, support):
    with pytest.raises(ValueError):
        Network(MODEL, *weights).score_trials(np.zeros((9, 8)), np.zeros(query, int), np.zeros(support, int))


def test_prototypes_are_the_mean_embeddings_of_the_shots(weights):
    rng = np.random.default_rng(1)
    embeddings = rng.normal(size=(61, 8)).astype(np.float32)
    query, support = rng.integers(61, size=(5, 2)), rng.integers(61, size=(5, 4, 3))
    network = Network(MODEL, *weights)
    scores = network.score_trials(embeddings, query, support, prototypes=True)
    means = embeddings[support].mean(axis=2)
    expected = [
        network.score_pairs(np.stack([embeddings[one], mean]), np.array([[0, 1]]))[0]
        for run, queries in enumerate(query)
        for one in queries
        for mean in means[run]
    ]
    np.testing.assert_allclose(scores.ravel(), expected, rtol=1e-4)
    assert not np.allclose(scores, network.score_trials(embeddings, query, support), rtol=1e-3)
    single = support[:, :, :1]
    of_one_shot = network.score_trials(embeddings, query, single)
    np.testing.assert_allclose(network.score_trials(embeddings, query, single, prototypes=True), of_one_shot, rtol=1e-5)


@pytest.mark.parametrize("shots", [1, 2])
def test_a_constant_network_scores_at_chance_or_below(weights, drawn, shots):
    params, batch_stats = weights
    params = {**params, "encoder": jax.tree.map(jnp.zeros_like, params["encoder"])}
    network = Network(MODEL, params, batch_stats)
    embeddings = network.embed(drawn.images.repeat(2, axis=1).repeat(2, axis=2))
    for trials in (
        one_shot.within_group(drawn, trials=400, ways=4, seed=0),
        one_shot.between_groups(drawn, trials=400, ways=4, shots=shots, seed=0),
    ):
        right = one_shot.right(network.score_trials(embeddings, trials.query, trials.support), trials.answer)
        assert right.mean() <= 0.25


def test_a_perfect_embedding_answers_all_trials(weights, drawn):
    """One-hot identities under a head that counts differences."""
    params = {**weights[0], "head": {"weight": -jnp.ones(18), "bias": jnp.ones(())}}
    network = Network(MODEL, params, weights[1])
    embeddings = np.eye(18, dtype=np.float32)[drawn.label]
    trials = one_shot.within_group(drawn, trials=400, ways=4, seed=0)
    assert one_shot.right(network.score_trials(embeddings, trials.query, trials.support), trials.answer).all()


def test_an_embedding_is_the_mean_over_image_and_distorted_copies(weights, images):
    def brighter(keys, images):
        return images * jax.vmap(lambda key: jax.random.uniform(key, (1, 1, 1)))(keys)

    network = Network(MODEL, *weights, chunk=16, copies=2, distort=brighter)
    embeddings = network.embed(images)
    variables = {"params": weights[0]["encoder"], "batch_stats": weights[1]}
    factors = [1.0, *(float(jax.random.uniform(jax.random.key(copy), (1, 1, 1))[0, 0, 0]) for copy in range(2))]
    brightened = [images * np.float32(factor / 255) for factor in factors]
    expected = np.mean([MODEL.encoder.apply(variables, images, train=False) for images in brightened], axis=0)
    np.testing.assert_allclose(embeddings, expected, atol=1e-5)
    np.testing.assert_allclose(network.embed(images[7:8]), embeddings[7:8], atol=1e-5)


@pytest.fixture
def compiled():
    """Seconds of each program that XLA compiles, or loads from the cache, during a test."""
    taken, of = [], "/jax/core/compile/backend_compile_duration"
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, seconds, **_: taken.append(seconds) if event == of else None
    )
    yield taken
    jax.monitoring.clear_event_listeners()


@pytest.mark.thorough
def test_a_hundred_sizes_need_only_a_few_programs(weights, images, compiled):
    network = Network(MODEL, *weights, chunk=16)
    embeddings = np.random.default_rng(0).normal(size=(1100, 8)).astype(np.float32)
    trials = one_shot.Trials(np.zeros((1, 4, 2), np.int32), np.zeros((1, 3), np.int32), np.zeros((1, 3), np.int32))

    def use(size):
        network.embed(images[: size % 25 + 1])
        network.score_pairs(embeddings[:size], np.zeros((size, 2), np.int32))
        network.score_all(embeddings[:2], embeddings[:size])
        network.score_all(embeddings[:size], embeddings[:2])
        network.score_trials(embeddings[:size], trials.query, trials.support)

    use(3)
    compiled.clear()  # What any size needs does not count.
    use(1030)
    for size in range(1000, 1025):  # These sizes pad to the same shapes as those up to 1,099.
        use(size)
    first = len(compiled)
    assert 0 < first <= 12
    for size in range(1025, 1100):
        use(size)
    assert len(compiled) == first


@pytest.mark.parametrize("head", ["weighted_l1", "binary", "mahalanobis", "bilinear"])
def test_padding_does_not_change_a_bit(weights, images, head):
    network = Network(MODEL, *weights, chunk=16)
    np.testing.assert_array_equal(network.embed(images[:11]), network.embed(images[:16])[:11])
    np.testing.assert_array_equal(network.embed(images[:43]), network.embed(images[:48])[:43])
    head = heads.make(head)
    x = np.random.default_rng(0).normal(size=(128, 16)).astype(np.float32)
    params = head.init(jax.random.key(0), x, x)["params"]
    network = Network(state.Model(None, head), {"encoder": {}, "head": params}, {})
    pairs = np.random.default_rng(1).integers(100, size=(128, 2)).astype(np.int32)
    np.testing.assert_array_equal(network.score_pairs(x[:100], pairs[:100]), network.score_pairs(x, pairs)[:100])
    some, everything = network.score_all(x[:100], x[:70]), network.score_all(x, x)
    if head.__class__.__name__ == "Mahalanobis":  # Centres the points on the mean of all.
        np.testing.assert_allclose(some, everything[:100, :70], rtol=1e-5, atol=1e-5)
    else:
        np.testing.assert_array_equal(some, everything[:100, :70])


def test_queries_in_a_second_block_are_scored(weights):
    network = Network(MODEL, *weights)
    x = np.random.default_rng(0).normal(size=(4100, 8)).astype(np.float32)
    scores = network.score_all(x, x[:3])
    assert scores.shape == (4100, 3)
    np.testing.assert_allclose(scores[4090:], network.score_all(x[4090:], x[:3]), rtol=1e-5)


def test_no_pairs_queries_or_trials_give_empty_scores(weights):
    network, x = Network(MODEL, *weights), np.ones((3, 8), np.float32)
    assert network.score_pairs(x, np.zeros((0, 2), np.int32)).shape == (0,)
    assert network.score_all(x[:0], x).shape == (0, 3) and network.score_all(x, x[:0]).shape == (3, 0)
    none = one_shot.Trials(np.zeros((0, 4, 2), np.int32), np.zeros((0, 3), np.int32), np.zeros((0, 3), np.int32))
    assert network.score_trials(x, none.query, none.support).shape == (0, 3, 4)


def test_no_images_give_empty_embeddings_and_scores(weights, images):
    network = Network(MODEL, *weights, inputs=Inputs((8, 8, 1)))
    nothing, some = network.embed(images[:0]), network.embed(images[:3])
    assert nothing.shape == (0, 8) and nothing.dtype == np.float32
    assert network.score_pairs(some, np.zeros((0, 2), np.int32)).shape == (0,)
    assert network.score_pairs(nothing, np.zeros((0, 2), np.int32)).shape == (0,)
    for queries, gallery in ((nothing, some), (some, nothing), (nothing, nothing)):
        assert network.score_all(queries, gallery).shape == (len(queries), len(gallery))


@pytest.mark.parametrize(
    "pairs,message",
    [
        ([[0, 1], [2, 3]], r"image number 3, but the 3 images are numbered 0 to 2"),
        ([[0, -1]], "image number -1"),
        ([[0, 2**32]], "image number 4294967296"),
        ([[0.0, 1.0]], "found float64, expected image numbers"),
        ([0, 1], r"found shape \[2\], expected \[p, 2\]"),
        ([[0, 1, 2]], r"found shape \[1, 3\], expected \[p, 2\]"),
    ],
)
def test_pairs_with_invalid_image_numbers_are_refused(weights, pairs, message):
    with pytest.raises(ValueError, match=message):
        Network(MODEL, *weights).score_pairs(np.zeros((3, 8), np.float32), pairs)


@pytest.mark.parametrize("name", ["support", "query"])
def test_trials_with_invalid_image_numbers_are_refused(weights, name):
    trials = {"support": np.zeros((1, 2, 1), np.int32), "query": np.zeros((1, 1), np.int32)}
    trials[name] = trials[name] + 3
    with pytest.raises(ValueError, match=f"{name}: found image number 3"):
        Network(MODEL, *weights).score_trials(np.zeros((3, 8), np.float32), **trials)


@pytest.mark.parametrize(
    ("inputs", "given", "message"),
    [
        (Inputs((8, 8, 1)), np.zeros((2, 9, 8, 1), np.uint8), r"found uint8 \[2, 9, 8, 1\]; resize them first$"),
        (Inputs((8, 8, 1)), np.zeros((2, 8, 8, 1)), r"found float64 .*; convert them to whole numbers, 0 to 255"),
        (Inputs((8, 8, 1)), [[1, 2]], r"images uint8 \[n, 8, 8, 1\], found .* \[1, 2\]; resize .*, and convert"),
        (
            Inputs((8, 8, 1), dtype="float32"),
            np.zeros((2, 8, 8, 1), np.uint8),
            r"; convert and scale them as in training",
        ),
    ],
)
def test_inputs_of_another_form_are_refused_with_what_to_do(weights, inputs, given, message):
    with pytest.raises(ValueError, match=message) as error:
        Network(MODEL, *weights, inputs=inputs).embed(given)
    assert ("resize" in str(error.value)) == (np.shape(given)[1:] != inputs.shape)


def test_lists_are_embedded_like_arrays(weights, images):
    network = Network(MODEL, *weights, inputs=Inputs((8, 8, 1), dtype="float32"))
    x = images[:3].astype(np.float32)
    np.testing.assert_array_equal(network.embed(x.tolist()), network.embed(x))
