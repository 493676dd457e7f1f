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


def loss(params, batch):
    e = encoder.apply(params, jax.numpy.asarray(x, "float32")[batch.item] / 16)
    mined = mining.semi_hard(distances.pairwise_euclidean(e, e), batch.label)
    return losses.triplet_margin(*mined.embeddings(e), where=mined.valid)


@jax.jit
def step(params, state, key):
    value, grads = jax.value_and_grad(loss)(params, batches(key))
    updates, state = optimizer.update(grads, state)
    return optax.apply_updates(params, updates), state, value


params = encoder.init(jax.random.key(0), x[:1])
state = optimizer.init(params)
for number in range(200):
    params, state, value = step(params, state, jax.random.key(number))
    print(f"step {number}: loss {value:.3f}") if number % 50 == 49 else None
