"""Multi-similarity loss on Omniglot, with its built-in mining (Wang 2019).

    python launch.py --config configs/omniglot_multi_similarity.py --config.data.manual_dir=FOLDER

72.0 % on 20-way one-shot trials within the validation alphabets, from 24.4 % untrained; see docs/losses.md.
"""

from configs import omniglot


def get_config():
    config = omniglot.get_config()
    config.head.name = "distance"
    config.head.distance.distance = "cosine"
    config.loss.name = "multi_similarity"
    config.loss.multi_similarity.epsilon = 0.1
    return config
