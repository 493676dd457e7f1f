"""A small siamese network on Omniglot's 30 background alphabets, judged on its 20 evaluation alphabets.

    python launch.py --config configs/omniglot.py --config.data.manual_dir=FOLDER

What the configurations omniglot_LOSS.py share, which differ in their loss alone; docs/losses.md compares them.
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
