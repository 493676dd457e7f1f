"""One-shot Omniglot by a network trained on generated alphabets only, without any real image.

    python launch.py --config configs/omniglot_glyphs.py
    python launch.py --mode evaluate --workdir runs/omniglot_glyphs --config.data.name=omniglot \\
        --config.data.manual_dir=FOLDER

20-way one-shot: 92.25 % on the official runs, 84.9 % on random trials within Omniglot's 20 evaluation alphabets. With
28 pixels and 3,000 steps (--config.data.size=28 --config.encoder.name=local --config.train.steps=3000): 93.0 and
85.8 % (seed 0).
"""

from configs import omniglot_fast


def get_config():
    config = omniglot_fast.get_config()
    config.data.name = "glyphs"
    config.data.splits = "lake"
    config.data.turns = 8
    config.train.steps = 1500
    return config
