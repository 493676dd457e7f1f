"""A miner and a loss of siamjax in a training loop of your own. Prints the loss as it falls.

python examples/own_loop.py
"""

import jax
import optax
import sklearn.datasets
from flax import linen as nn

from siamjax import distances, losses, mining, sampling

x, y = sklearn.datasets.load_digits(return_X_y=True)
batches, encoder, optimizer = sampling.Balanced(y, identities=10, per_identity=4), nn.Dense(16), optax.adam(1e-2)
params = encoder.init(jax.random.key(0), x[:1])


@jax.jit
def step(params, state, key):
    batch = batches(key)

    def loss(params):
        e = encoder.apply(params, jax.numpy.asarray(x)[batch.item] / 16)
        mined = mining.semi_hard(distances.pairwise_euclidean(e, e), batch.label)
        return losses.triplet_margin(e[mined.anchor], e[mined.positive], e[mined.negative], where=mined.valid)

    value, grads = jax.value_and_grad(loss)(params)
    updates, state = optimizer.update(grads, state)
    return optax.apply_updates(params, updates), state, value


state = optimizer.init(params)
for number in range(200):
    params, state, value = step(params, state, jax.random.key(number))
    if number % 50 == 0:
        print(f"step {number}: loss {value:.3f}")
