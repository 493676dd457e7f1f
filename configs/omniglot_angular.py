"""Angular loss on Omniglot, with embeddings of unit length (Wang 2017).

    python launch.py --config configs/omniglot_angular.py --config.data.manual_dir=FOLDER

70.7 % on 20-way one-shot trials within the validation alphabets, from 24.4 % untrained; see docs/losses.md.
"""

from configs import omniglot


def get_config():
    config = omniglot.get_config()
    config.encoder.unit_length = True
    config.head.name = "distance"
    config.head.distance.distance = "cosine"
    config.loss.name = "angular"
    return config
