"""Every configurable loss with its defaults brings identities together, and the head learns to distinguish them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from siamjax import distances, heads
from siamjax import optimizer as optimizers
from siamjax.training import objectives
from siamjax.training.types import Batch

ON_EMBEDDINGS = sorted(objectives.BATCH_LOSSES.keys() - {"intra_pair_variance"})  # which need not tell kinds apart
OPTIONS = objectives.loss_options()
# With several centres for each of five classes in six dimensions, every item is near a centre of its class.
OPTIONS["soft_triple"]["per_class"] = OPTIONS["sub_center_arcface"]["per_class"] = 1
LABEL = jnp.array([0] * 6 + [1] * 3 + [2] * 4 + [3] * 5 + [4] * 2)
BATCH = Batch(images=None, noise=None, label=LABEL, group=LABEL // 3)
PAIRS = jnp.array([[0, 1, 2, 3, 0, 1, 2, 4, 5, 0], [0, 1, 2, 3, 0, 2, 4, 5, 0, 1]]).ravel()
PAIRED = Batch(images=None, noise=None, label=PAIRS, group=PAIRS)


def configured(name, head, mode="identities"):
    return objectives.make(name, head, mode=mode, options=OPTIONS.get(name), across_groups=False, identities=5)


def nearest_is_the_same(embeddings):
    d = distances.pairwise_cosine(embeddings, embeddings) + 9 * jnp.eye(len(embeddings))
    return jnp.mean(LABEL[jnp.argmin(d, axis=1)] == LABEL)


@pytest.mark.sweep
@pytest.mark.parametrize("name", ["cross_entropy", "ranking", *ON_EMBEDDINGS, *objectives.PROXY_LOSSES])
def test_descent_on_free_embeddings_brings_identities_together(name):
    head = heads.make("distance", distance="cosine", scale=10.0)
    objective = configured(name, head)
    start = distances.unit(jax.random.normal(jax.random.key(2), (20, 6)))
    params = {"head": head.init(jax.random.key(0), start, start)["params"], "embeddings": start}
    params["loss"] = objective.init(jax.random.key(1), 6)
    optimizer = optax.adam(0.03)

    @jax.jit
    def descend(params):
        def step(carry, _):
            params, state = carry
            loss_of = lambda params: objective.value(params, distances.unit(params["embeddings"]), BATCH)  # noqa: E731
            (loss, metrics), grads = jax.value_and_grad(loss_of, has_aux=True)(params)
            updates, state = optimizer.update(grads, state)
            return (optax.apply_updates(params, updates), state), (loss, metrics)

        (params, _), history = jax.lax.scan(step, (params, optimizer.init(params)), length=150)
        return params, history

    params, (loss, metrics) = descend(params)
    assert nearest_is_the_same(start) < 0.5
    # A softmax over proxies only brings each item nearest to the proxy of its class.
    assert nearest_is_the_same(params["embeddings"]) >= (0.7 if name in objectives.PROXY_LOSSES else 1)
    assert loss[-1] < loss[0]
    assert metrics["pair_accuracy"][-1] > 0.7 > metrics["pair_accuracy"][0]
    if "triplet" in name:
        assert metrics["active_share"][0] > 0.3 > metrics["active_share"][-1]


def test_only_the_loss_on_embeddings_trains_the_encoder():
    """Value and gradient of the embeddings are the loss's alone; the head's gradient is its cross-entropy's."""
    head = heads.WeightedL1()
    embeddings = distances.unit(jax.random.normal(jax.random.key(2), (20, 6)))
    params = {"head": head.init(jax.random.key(0), embeddings, embeddings)["params"]}

    def differentiate(name):
        objective = configured(name, head)
        differentiated = jax.value_and_grad(lambda p, x: objective.value(p, x, BATCH)[0], argnums=(0, 1))
        return jax.jit(differentiated)(params, embeddings)

    value, (of_head, of_embeddings) = differentiate("supervised_contrastive")
    expected = objectives.losses.supervised_contrastive
    np.testing.assert_allclose(value, expected(embeddings, LABEL), rtol=1e-6)
    slope = jax.jit(jax.grad(expected))(embeddings, LABEL)
    np.testing.assert_allclose(of_embeddings, slope, rtol=1e-6, atol=1e-9)
    _, (by_cross_entropy, _) = differentiate("cross_entropy")
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), of_head, by_cross_entropy)
    assert all(np.any(leaf != 0) for leaf in jax.tree.leaves(of_head))


def test_ranking_compares_each_positives_logit_with_those_of_its_anchors_negatives():
    head = heads.WeightedL1()
    embeddings = jax.random.normal(jax.random.key(2), (20, 6))
    params = {"head": head.init(jax.random.key(0), embeddings, embeddings)["params"]}
    objective = configured("ranking", head)
    differentiated = jax.value_and_grad(lambda p: objective.value(p, embeddings, BATCH), has_aux=True)
    (value, _), of_head = jax.jit(differentiated)(params)
    x, weight, label = (np.asarray(leaf, np.float64) for leaf in (embeddings, params["head"]["weight"], LABEL))
    logits = np.abs(x[:, None] - x[None]) @ weight
    expected = [
        np.log1p(np.exp(logits[a, label != label[a]] - logits[a, p]).sum())
        for a in range(20)
        for p in range(20)
        if a != p and label[a] == label[p]
    ]
    np.testing.assert_allclose(value, np.mean(expected), rtol=1e-5)
    assert of_head["head"]["bias"] != 0  # the ranking does not depend on it


@pytest.mark.sweep
@pytest.mark.parametrize("name", objectives.PAIR_LOSSES)
def test_a_pair_loss_moves_the_pairs_of_the_batch(name):
    """Same pairs move closer and different ones apart, and the head learns to distinguish them."""
    head = heads.make("distance")
    objective = configured(name, head, mode="pairs")
    start = jax.random.normal(jax.random.key(3), (20, 6)) / 6  # different pairs start within the losses' margins
    params = {"head": head.init(jax.random.key(0), start, start)["params"], "embeddings": start}
    same = PAIRED.label[:10] == PAIRED.label[10:]

    def apart(x):
        d = distances.euclidean(x[:10], x[10:])
        return jnp.mean(d, where=same), jnp.mean(d, where=~same)

    optimizer = optax.adam(0.02)
    state, update = optimizer.init(params), jax.jit(optimizer.update)
    step = jax.jit(jax.grad(lambda p: objective.value(p, p["embeddings"], PAIRED)[0]))
    for _ in range(60):
        updates, state = update(step(params), state)
        params = optax.apply_updates(params, updates)
    (near, far), (first_near, first_far) = apart(params["embeddings"]), apart(start)
    assert near < 0.75 * first_near and far > first_far
    assert objective.value(params, params["embeddings"], PAIRED)[1]["pair_accuracy"] > 0.9


def test_defaults_are_those_of_the_functions():
    """The soft margin of a configuration has a margin of 0, the hinge 0.2."""
    x = distances.unit(jax.random.normal(jax.random.key(2), (20, 6)))
    for soft in (False, True):
        options = OPTIONS["batch_all_triplet"] | {"soft": soft}
        objective = objectives.make("batch_all_triplet", heads.make("distance"), options=options)
        params = {"head": heads.make("distance").init(jax.random.key(0), x, x)["params"]}
        expected = objectives.losses.batch_all_triplet(x, LABEL, soft=soft)
        value, _ = jax.jit(objective.value)(params, x, BATCH)
        np.testing.assert_allclose(value, expected, rtol=1e-6)


def test_the_head_does_not_shorten_the_encoders_steps():
    """The step of the encoder does not depend on the size of the head's gradient."""
    params = {"encoder": jnp.ones(3), "head": jnp.ones(2)}
    transform = optimizers.make("adamw", {}, epoch_steps=10, steps=100)

    def moved(of_head):
        state = transform.init(params)
        for scale in (1.0, 0.3):  # the second differs from the first, which Adam would divide out
            grads = {"encoder": scale * jnp.ones(3), "head": of_head * jnp.ones(2)}
            updates, state = transform.update(grads, state, params)
        return updates["encoder"]

    assert np.any(moved(1.0) != 0)
    np.testing.assert_array_equal(moved(1.0), moved(1e3))


def test_your_own_loss_is_used_unchanged():
    head = heads.make("distance")
    x = jax.random.normal(jax.random.key(2), (20, 6))
    params = {"head": head.init(jax.random.key(0), x, x)["params"]}
    objective = objectives.make(lambda embeddings, labels: jnp.sum(embeddings) + labels[3], head)
    np.testing.assert_allclose(objective.value(params, x, BATCH)[0], jnp.sum(x) + LABEL[3], rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "changed", "message"),
    [
        ("triplet", {}, "name='triplet' is not known; choose one of .*batch_all_triplet.*ntxent"),
        ("ntxent", {"mode": "pairs"}, "name='ntxent' is a batch loss: set batch.mode='identities'"),
        ("contrastive", {}, "name='contrastive' is a loss of given pairs: set batch.mode='pairs', or name 'batch_cont"),
        ("arcface", {"identities": None}, "name='arcface' learns a point for each identity"),
        ("batch_hard_triplet", {"options": {"distance": "snr"}}, "batch_hard_triplet.distance='snr' is not known"),
        ("batch_hard_triplet", {"options": {"distance": "dot"}}, "batch_hard_triplet.distance='dot' is a similarity"),
    ],
)
def test_losses_that_do_not_fit_are_refused(name, changed, message):
    given = {"options": OPTIONS.get(name), "identities": 5} | changed
    with pytest.raises(ValueError, match=message):
        objectives.make(name, heads.make("distance"), **given)
