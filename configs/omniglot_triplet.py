"""Triplet loss on Omniglot, on each anchor's hardest triplet in the batch.

    python launch.py --config configs/omniglot_triplet.py --config.data.manual_dir=FOLDER

Batch-hard with the soft margin (Hermans, Beyer, Leibe 2017).
"""

from configs import omniglot


def get_config():
    config = omniglot.get_config()
    config.head.name = "distance"
    config.loss.name = "batch_hard_triplet"
    config.loss.batch_hard_triplet.soft = True
    config.loss.batch_hard_triplet.margin = 0.0
    return config
