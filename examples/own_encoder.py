"""Train your own encoder on your own arrays: images, and a table. Prints recall@1 of classes never trained on.

python examples/own_encoder.py
"""

import sklearn.datasets
from flax import linen as nn

import siamjax
from siamjax.evaluation import retrieval


class Encoder(nn.Module):
    @nn.compact
    def __call__(self, x):  # [n, 8, 8] -> [n, 64]
        return nn.Dense(64)(nn.relu(nn.Conv(32, (3, 3))(x[..., None])).reshape(len(x), -1))


digits = sklearn.datasets.load_digits()
known = digits.target < 6
for name, x, encoder in (("images", digits.images, Encoder()), ("table", digits.data, None)):
    network = siamjax.fit(x[known], digits.target[known], encoder=encoder, steps=200)
    found = retrieval.measures(network.score_all, network.embed(x[~known]), digits.target[~known])
    print(f"{name}: recall@1 {found['recall_at_1']:.1%}")
