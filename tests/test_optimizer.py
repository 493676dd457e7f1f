import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from siamjax import heads, optimizer
from siamjax.run import recipe, settings
from siamjax.training import objectives


def koch_config(**layers):
    default = dict(learning_rate=0.1, momentum=0.9, l2=0.0)
    layers = {"default": default, **{name: {**default, **changed} for name, changed in layers.items()}}
    return dict(epoch_decay=0.99, first_momentum=0.5, momentum_epochs=2, layers=layers)


def test_kochs_descent_equals_the_loop_written_out():
    """Each layer has its own rate, L2 and momentum, which rises linearly over 2 epochs of 3 steps from 0.5."""
    config = koch_config(conv1=dict(learning_rate=0.2, momentum=0.8, l2=0.01), head=dict(learning_rate=0.05, l2=0.1))
    params = {
        "encoder": {"conv1": {"kernel": jnp.array([1.0, -2.0])}, "dense": {"bias": jnp.array([0.5])}},
        "head": {"weight": jnp.array([3.0])},
    }
    settings = {"conv1": (0.2, 0.8, 0.01), "dense": (0.1, 0.9, 0.0), "head": (0.05, 0.9, 0.1)}
    expected = {"conv1": np.array([1.0, -2.0]), "dense": np.array([0.5]), "head": np.array([3.0])}
    velocity = {name: np.zeros_like(value) for name, value in expected.items()}
    transform = optimizer.make("koch", config, epoch_steps=3, steps=9)
    state = transform.init(params)
    for step in range(9):
        # The loss is Σ w² / 2 + 0.3 Σ w, so that its gradient moves with the weights.
        gradients = {
            "encoder": {
                "conv1": {"kernel": params["encoder"]["conv1"]["kernel"] + 0.3},
                "dense": {"bias": params["encoder"]["dense"]["bias"] + 0.3},
            },
            "head": {"weight": params["head"]["weight"] + 0.3},
        }
        updates, state = transform.update(gradients, state, params)
        params = optax.apply_updates(params, updates)
        for name, (rate, last, l2) in settings.items():
            momentum = 0.5 + (last - 0.5) * min(step / 6, 1)
            velocity[name] = momentum * velocity[name] + expected[name] + 0.3 + 2 * l2 * expected[name]
            expected[name] = expected[name] - rate * 0.99 ** (step // 3) * velocity[name]
    np.testing.assert_allclose(params["encoder"]["conv1"]["kernel"], expected["conv1"], rtol=1e-5)
    np.testing.assert_allclose(params["encoder"]["dense"]["bias"], expected["dense"], rtol=1e-5)
    np.testing.assert_allclose(params["head"]["weight"], expected["head"], rtol=1e-5)


def test_adamw_warms_up_and_ends_at_its_final_share():
    adamw = dict(learning_rate=0.1, final_share=0.01, warmup_steps=5, weight_decay=0.0, clip_norm=1e9)
    transform = optimizer.make("adamw", adamw, epoch_steps=1, steps=50)
    params = {"encoder": jnp.array([0.0]), "head": jnp.array([0.0])}
    state = transform.init(params)
    sizes = []
    for _ in range(51):
        updates, state = transform.update(jax.tree.map(jnp.ones_like, params), state, params)
        sizes.append(-float(updates["encoder"][0]))
    # With a constant gradient, Adam's step is the learning rate.
    np.testing.assert_allclose([sizes[0], sizes[1], sizes[5], sizes[50]], [0.0, 0.02, 0.1, 0.001], atol=1e-5)


def test_unknown_optimizers_are_refused():
    with pytest.raises(ValueError, match="name='adam' is not known; choose one of adamw, koch"):
        optimizer.make("adam", {}, epoch_steps=1, steps=1)


def test_published_layers_take_shorter_steps_or_none():
    params = {
        "encoder": {"backbone": {"conv1": {"kernel": jnp.ones(3)}}, "last": {"kernel": jnp.ones(3)}},
        "head": {"scale": jnp.ones(())},
    }
    grads = jax.tree.map(jnp.ones_like, params)

    def steps(transformation):
        updates, _ = transformation.update(grads, transformation.init(params), params)
        updates, _ = transformation.update(
            grads, transformation.update(grads, transformation.init(params), params)[1], params
        )
        return updates

    usual, slower = (steps(optimizer.adamw(10, warmup_steps=1, pretrained_share=share)) for share in (1.0, 0.25))
    np.testing.assert_allclose(
        slower["encoder"]["backbone"]["conv1"]["kernel"], 0.25 * usual["encoder"]["backbone"]["conv1"]["kernel"]
    )
    np.testing.assert_array_equal(slower["encoder"]["last"]["kernel"], usual["encoder"]["last"]["kernel"])
    made = optimizer.keep_published(optimizer.adamw(10, warmup_steps=1, weight_decay=0.5))
    kept = steps(made)
    assert not np.any(kept["encoder"]["backbone"]["conv1"]["kernel"])  # No weight decay either.
    assert np.all(kept["encoder"]["last"]["kernel"] < 0) and kept["head"]["scale"] < 0
    moments = [leaf.shape for leaf in jax.tree.leaves(made.init(params)) if leaf.shape == (3,)]
    assert len(moments) == 2  # Of `last` alone: frozen layers take no memory for them.


def test_published_weights_learn_slower_than_others_and_random_ones_do_not():
    params = {"encoder": {"backbone": jnp.ones(3), "last": jnp.ones(3)}, "head": {"scale": jnp.ones(3)}}
    for weights, share in (("w.npz", 0.3), ("", 1.0)):
        config = settings.default()
        config.encoder.weights = weights
        made = recipe.make_optimizer(config, objectives.make("ntxent", heads.make("distance"), mode="identities"))
        state = made.init(params)
        for _ in range(2):  # The first step of the warm-up is 0.
            updates, state = made.update(params, state, params)
        np.testing.assert_allclose(updates["encoder"]["backbone"], share * updates["encoder"]["last"], rtol=1e-6)
        assert np.all(updates["encoder"]["last"] < 0)
