"""InfoNCE on Omniglot: each same pair against all different ones, in a softmax of scaled cosines.

    python launch.py --config configs/omniglot_info_nce.py --config.data.manual_dir=FOLDER

The scale is learned.
"""

from configs import omniglot


def get_config():
    config = omniglot.get_config()
    config.head.name = "distance"
    config.head.distance.distance = "cosine"
    config.loss.name = "info_nce"
    return config
