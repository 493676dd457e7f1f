"""NT-Xent on Omniglot: each same pair against all of the anchor's different ones, in a softmax of their cosines.

python launch.py --config configs/omniglot_ntxent.py --config.data.manual_dir=FOLDER
"""

from configs import omniglot


def get_config():
    config = omniglot.get_config()
    config.head.name = "distance"
    config.head.distance.distance = "cosine"
    config.loss.name = "ntxent"
    return config
