"""NT-Xent on Omniglot: each same pair against all different pairs of its anchor, in a softmax of their cosines.

    python launch.py --config configs/omniglot_ntxent.py --config.data.manual_dir=FOLDER

77.1 % on 20-way one-shot trials within the validation alphabets, from 24.4 % untrained; see docs/losses.md.
"""

from configs import omniglot


def get_config():
    config = omniglot.get_config()
    config.head.name = "distance"
    config.head.distance.distance = "cosine"
    config.loss.name = "ntxent"
    return config
