"""One-shot Omniglot in Lake's original setting: the background alphabets without augmented classes.

    python launch.py --config configs/omniglot_original.py --config.data.manual_dir=FOLDER

20-way one-shot: 97.75 % on the official runs, 89.2 % on random trials within the 20 evaluation alphabets (seed 0); see
docs/results.md.
"""

from configs import omniglot_fast


def get_config():
    config = omniglot_fast.get_config()
    config.data.turns = 1
    config.train.steps = 2000
    return config
