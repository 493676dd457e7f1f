"""A small siamese network on Omniglot's 30 background alphabets, evaluated on its 20 evaluation alphabets.

    python launch.py --config configs/omniglot.py --config.data.manual_dir=FOLDER

The base of the configurations omniglot_LOSS.py, which differ in loss and head; docs/losses.md compares them.
47.3 % on 20-way one-shot trials within the validation alphabets, with cross-entropy and the weighted-L1 head.
"""

from configs import default


def get_config():
    config = default.get_config()
    config.data.name = "omniglot"
    config.encoder.width = 16
    config.augment.name = "none"
    config.optimizer.adamw.learning_rate = 3e-3
    config.train.steps = 300
    config.train.validate_every = 100
    return config
