"""One-shot Omniglot from a minimal background: 5 alphabets (small1 or small2), plus generated alphabets.

    python launch.py --config configs/omniglot_minimal.py --config.data.manual_dir=FOLDER
    python launch.py --config configs/omniglot_minimal.py --workdir runs/omniglot_minimal2 \\
        --config.data.splits=small2 --config.data.manual_dir=FOLDER

20-way one-shot with small1: 95.75 % on the official runs, 88.5 % on random trials within the 20 evaluation alphabets;
with small2, 96.25 % and 88.6 % (seed 0). Ten minutes on one CPU core.
"""

from configs import omniglot_fast


def get_config():
    config = omniglot_fast.get_config()
    config.data.splits = "small1"
    config.data.turns = 8
    config.data.glyphs.joined = 200
    config.train.steps = 1500
    return config
