"""Every loss of a configuration, as it stands there: it pulls identities together, and the head learns beside it."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import default
from siamjax import distances, heads
from siamjax import optimizer as optimizers
from siamjax.sampling import Batch
from siamjax.training import objectives

CONFIG = default.get_config()
ON_EMBEDDINGS = sorted(set(CONFIG.loss) - {"name"})
LABEL = jnp.array([0] * 6 + [1] * 3 + [2] * 4 + [3] * 5 + [4] * 2)
BATCH = Batch(item=jnp.arange(20), label=LABEL, group=LABEL // 3)


def configured(name, **changed):
    config = default.get_config()
    config.loss.name = name
    config.batch.update(changed)
    return objectives.make(config.loss, config.batch)


def nearest_is_the_same(embeddings):
    d = distances.pairwise_cosine(embeddings, embeddings) + 9 * jnp.eye(len(embeddings))
    return jnp.mean(LABEL[jnp.argmin(d, axis=1)] == LABEL)


@pytest.mark.parametrize("name", ["cross_entropy", "ranking", *ON_EMBEDDINGS])
def test_descent_on_free_embeddings_brings_identities_together(name):
    head = heads.make("distance", distance="cosine", scale=10.0)
    objective = functools.partial(configured(name), head)
    start = distances.unit(jax.random.normal(jax.random.key(2), (20, 6)))
    params = {"head": head.init(jax.random.key(0), start, start)["params"], "embeddings": start}
    optimizer = optax.adam(0.03)

    @jax.jit
    def descend(params):
        def step(carry, _):
            params, state = carry
            loss_of = lambda params: objective(params, distances.unit(params["embeddings"]), BATCH)  # noqa: E731
            (loss, metrics), grads = jax.value_and_grad(loss_of, has_aux=True)(params)
            updates, state = optimizer.update(grads, state)
            return (optax.apply_updates(params, updates), state), (loss, metrics)

        (params, _), history = jax.lax.scan(step, (params, optimizer.init(params)), length=150)
        return params, history

    params, (loss, metrics) = descend(params)
    assert nearest_is_the_same(start) < 0.5
    assert nearest_is_the_same(params["embeddings"]) == 1
    assert loss[-1] < loss[0]
    assert metrics["pair_accuracy"][-1] > 0.7 > metrics["pair_accuracy"][0]
    if "triplet" in name:
        assert metrics["active_share"][0] > 0.3 > metrics["active_share"][-1]


def test_losses_on_embeddings_leave_the_encoder_to_themselves():
    """The gradient of the embeddings is the loss's alone, and the value, too; the head's is its cross-entropy's."""
    head = heads.WeightedL1()
    embeddings = distances.unit(jax.random.normal(jax.random.key(2), (20, 6)))
    params = {"head": head.init(jax.random.key(0), embeddings, embeddings)["params"]}

    def differentiate(name):
        return jax.value_and_grad(lambda p, x: configured(name)(head, p, x, BATCH)[0], argnums=(0, 1))(
            params, embeddings
        )

    value, (of_head, of_embeddings) = differentiate("supervised_contrastive")
    expected = objectives.losses.supervised_contrastive
    np.testing.assert_allclose(value, expected(embeddings, LABEL), rtol=1e-6)
    np.testing.assert_allclose(of_embeddings, jax.grad(expected)(embeddings, LABEL), rtol=1e-6, atol=1e-9)
    _, (by_cross_entropy, _) = differentiate("cross_entropy")
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), of_head, by_cross_entropy)
    assert all(np.any(leaf != 0) for leaf in jax.tree.leaves(of_head))


def test_ranking_sets_each_positives_logit_against_those_of_its_anchors_negatives():
    head = heads.WeightedL1()
    embeddings = jax.random.normal(jax.random.key(2), (20, 6))
    params = {"head": head.init(jax.random.key(0), embeddings, embeddings)["params"]}
    (value, _), of_head = jax.value_and_grad(lambda p: configured("ranking")(head, p, embeddings, BATCH), has_aux=True)(
        params
    )
    x, weight, label = (np.asarray(leaf, np.float64) for leaf in (embeddings, params["head"]["weight"], LABEL))
    logits = np.abs(x[:, None] - x[None]) @ weight
    expected = [
        np.log1p(np.exp(logits[a, label != label[a]] - logits[a, p]).sum())
        for a in range(20)
        for p in range(20)
        if a != p and label[a] == label[p]
    ]
    np.testing.assert_allclose(value, np.mean(expected), rtol=1e-5)
    assert of_head["head"]["bias"] != 0  # of which the ranking knows nothing


@pytest.mark.parametrize("name", ON_EMBEDDINGS)
def test_every_option_of_a_loss_can_be_configured(name):
    parameters = inspect.signature(getattr(objectives.losses, name)).parameters
    options = {key for key, parameter in parameters.items() if parameter.kind is inspect.Parameter.KEYWORD_ONLY}
    assert set(CONFIG.loss[name]) == options - {"where", "axis_name", "reduce_fn", "has_aux", "pairs"}


def test_the_head_does_not_shorten_the_encoders_steps():
    """However large the head's gradient, a step of the optimizer moves the encoder alike."""
    params = {"encoder": jnp.ones(3), "head": jnp.ones(2)}
    transform = optimizers.make(CONFIG.optimizer, epoch_steps=10, steps=100)

    def moved(of_head):
        state = transform.init(params)
        for scale in (1.0, 0.3):  # the second differs from the first, which Adam would divide out
            grads = {"encoder": scale * jnp.ones(3), "head": of_head * jnp.ones(2)}
            updates, state = transform.update(grads, state, params)
        return updates["encoder"]

    assert np.any(moved(1.0) != 0)
    np.testing.assert_array_equal(moved(1.0), moved(1e3))


def test_unknown_names_and_losses_that_need_another_batch_are_refused():
    with pytest.raises(ValueError, match="loss.name='triplet' is not known; choose one of .*batch_all_triplet.*ntxent"):
        configured("triplet")
    with pytest.raises(ValueError, match="loss.name='ntxent' looks for its pairs in the batch; set batch.mode"):
        configured("ntxent", mode="pairs")
    config = default.get_config()
    config.loss.name = "batch_hard_triplet"
    config.loss.batch_hard_triplet.distance = "dot"
    with pytest.raises(ValueError, match="loss.batch_hard_triplet.distance='dot' is not known"):
        objectives.make(config.loss, config.batch)
