"""One-shot Omniglot in Lake's original setting: the background alphabets without augmented classes.

    python launch.py --config configs/omniglot_original.py --config.data.manual_dir=FOLDER

At 28 pixels (--config.data.size=28 --config.encoder.name=local --config.train.steps=3000), 88.8 % on random 20-way
one-shot trials within the 20 evaluation alphabets (seed 0); not trained at 56 yet.
"""

from configs import omniglot_fast


def get_config():
    config = omniglot_fast.get_config()
    config.data.turns = 1
    config.train.steps = 2000
    return config
