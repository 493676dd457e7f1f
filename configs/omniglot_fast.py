"""One-shot Omniglot in twenty minutes on one CPU core: 30 background alphabets, and their quarter-turns as new ones.

    python launch.py --config configs/omniglot_fast.py --config.data.manual_dir=FOLDER

20-way one-shot: 98.25 % on the official runs, 89.3 % on random trials within the 20 evaluation alphabets (augmented
classes, seed 0); see docs/results.md.
"""

from configs import default


def get_config():
    config = default.get_config()
    config.data.name = "omniglot"
    config.data.splits = "background"
    config.data.size = 56
    config.data.turns = 4
    config.augment.affine.probability = 1.0
    config.augment.affine.rotation = 10.0
    config.augment.affine.shear = 0.15
    config.augment.affine.shift = 0.06
    config.encoder.name = "local56"
    config.encoder.width = 16
    config.encoder.embedding = 7 * 7 * 32
    config.head.name = "aligned"
    config.loss.name = "ranking"
    config.optimizer.adamw.learning_rate = 4e-3
    config.optimizer.average = 0.995
    config.train.steps = 3000
    config.train.validate_every = 500
    config.train.log_every = 100
    config.train.keep = "last"
    config.evaluation.copies = 8
    return config
