"""Hadsell's contrastive loss on Omniglot, on all pairs of each batch.

    python launch.py --config configs/omniglot_contrastive.py --config.data.manual_dir=FOLDER

Same pairs are pulled together, different ones pushed beyond a margin.
58.5 % on 20-way one-shot trials within the validation alphabets, from 24.4 % untrained; see docs/losses.md.
"""

from configs import omniglot


def get_config():
    config = omniglot.get_config()
    config.encoder.unit_length = True
    config.head.name = "distance"
    config.loss.name = "batch_contrastive"
    return config
