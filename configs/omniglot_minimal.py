"""One-shot Omniglot from a minimal background: 5 alphabets (small1; or small2), and alphabets that are drawn.

    python launch.py --config configs/omniglot_minimal.py --config.data.manual_dir=FOLDER
    python launch.py --config configs/omniglot_minimal.py --workdir runs/omniglot_minimal2 \\
        --config.data.splits=small2 --config.data.manual_dir=FOLDER

Its accuracy has not been measured yet.
"""

from configs import omniglot_fast


def get_config():
    config = omniglot_fast.get_config()
    config.data.splits = "small1"
    config.data.turns = 8
    config.data.glyphs.joined = 200
    config.train.steps = 2000
    return config
