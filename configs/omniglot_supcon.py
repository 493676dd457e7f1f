"""Supervised contrastive loss on Omniglot (Khosla 2020).

    python launch.py --config configs/omniglot_supcon.py --config.data.manual_dir=FOLDER

76.8 % on 20-way one-shot trials within the validation alphabets, from 24.4 % untrained; see docs/losses.md.
"""

from configs import omniglot


def get_config():
    config = omniglot.get_config()
    config.head.name = "distance"
    config.head.distance.distance = "cosine"
    config.loss.name = "supervised_contrastive"
    return config
