"""Koch's network and head at 105×105, trained on the task of a one-shot trial: the one same pair among many.

    python launch.py --config configs/koch_ranking.py --config.data.manual_dir=FOLDER

20-way one-shot: 81.0 % on the official runs, 67.9 % on random trials within the 20 evaluation alphabets, after 21
minutes on two CPU cores (seed 0).
"""

from configs import koch_omniglot, omniglot_fast


def get_config():
    config = koch_omniglot.get_config()
    config.data.splits = "background"
    config.data.turns = 4
    config.augment = omniglot_fast.get_config().augment
    config.batch.identities = 24
    config.batch.per_identity = 2
    config.batch.per_group = 24
    config.loss.name = "ranking"
    config.optimizer.average = 0.99
    config.train.steps = 1200
    config.train.validate_every = 200
    config.train.keep = "last"
    return config
