"""Koch's siamese network on Omniglot, trained on the task of a one-shot trial with a smaller network as its teacher.

    python launch.py --config configs/koch_omniglot.py --config.data.manual_dir=FOLDER

Koch's encoder at 105×105 and weighted-L1 head; the rest is not his: all 30 background alphabets by all drawers, their
quarter-turns as new ones, the one same pair ranked among many, and, for half of the loss, the similarities that the
shipped network "omniglot-fast" finds, which saw the same alphabets. configs/koch_full.py is the published recipe.

20-way one-shot in two trainings, with a teacher of before and the present one: 91.75 and 89.75 % on the official runs,
78.1 and 78.6 % on random trials within the 20 evaluation alphabets (seed 0), after 161 and 134 minutes on one CPU core;
see docs/results.md.
"""

from configs import default, omniglot_fast


def get_config():
    config = default.get_config()
    config.data.name = "omniglot"
    config.data.splits = "background"
    config.data.size = 105
    config.data.turns = 4
    config.augment = omniglot_fast.get_config().augment
    config.encoder.name = "koch_scaled"
    config.encoder.width = 64
    config.encoder.embedding = 4096
    config.batch.identities = 24
    config.batch.per_identity = 2
    config.batch.per_group = 24
    config.loss.name = "ranking"
    config.optimizer.adamw.learning_rate = 1.5e-4
    config.optimizer.average = 0.995
    config.train.teacher = "omniglot-fast"
    config.train.steps = 4000
    config.train.validate_every = 500
    config.train.keep = "last"
    return config
