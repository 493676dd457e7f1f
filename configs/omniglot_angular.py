"""Angular loss on Omniglot, on embeddings of unit length (Wang 2017).

python launch.py --config configs/omniglot_angular.py --config.data.manual_dir=FOLDER
"""

from configs import omniglot


def get_config():
    config = omniglot.get_config()
    config.encoder.unit_length = True
    config.head.name = "distance"
    config.head.distance.distance = "cosine"
    config.loss.name = "angular"
    return config
