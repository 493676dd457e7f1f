"""One-shot Omniglot with a wider network and drawn alphabets among the real ones, for as long as they help.

    python launch.py --config configs/omniglot_best.py --config.data.manual_dir=FOLDER

Its accuracy has not been measured yet.
"""

from configs import omniglot_fast


def get_config():
    config = omniglot_fast.get_config()
    config.data.turns = 8
    config.encoder.width = 24
    config.encoder.embedding = 7 * 7 * 64
    config.train.steps = 8000
    return config
