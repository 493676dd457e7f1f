"""FaceNet's triplet loss on Omniglot: each same pair with its semi-hard negative in the batch.

    python launch.py --config configs/omniglot_triplet.py --config.data.manual_dir=FOLDER

Unit length, squared distances and a margin of 0.2, as in Schroff, Kalenichenko, Philbin (2015).
75.8 % on 20-way one-shot trials within the validation alphabets, from 24.4 % untrained; see docs/losses.md.
"""

from configs import omniglot


def get_config():
    config = omniglot.get_config()
    config.encoder.unit_length = True
    config.head.name = "distance"
    config.loss.name = "semi_hard_triplet"
    return config
