"""Learn from a list of pairs: is the second signal a noisy copy of the first? Prints the accuracy on new pairs.

python examples/pairs.py
"""

import numpy as np

import siamjax


def pairs(count, seed):
    rng = np.random.default_rng(seed)
    waves, same = rng.normal(size=(2, count, 32)).cumsum(axis=2), rng.random(count) < 0.5
    return siamjax.Pairs(waves[0], np.where(same[:, None], waves[0], waves[1]) + rng.normal(size=(count, 32)), same)


network = siamjax.fit(pairs(2000, seed=0), validation=pairs(500, seed=1), loss="contrastive", steps=200)
new = pairs(1000, seed=2)
scores = network.score_pairs(network.embed(np.concatenate([new.a, new.b])), np.arange(2000).reshape(2, -1).T)
print(f"accuracy {np.mean(network.decision.same(scores) == new.same):.1%}")
