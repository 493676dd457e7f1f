"""Koch's siamese network on Omniglot, learning from all pairs of each batch.

python launch.py --config configs/koch_omniglot.py --config.data.manual_dir=FOLDER
"""

from configs import default


def get_config():
    config = default.get_config()
    config.data.name = "omniglot"
    config.data.splits = "koch"
    config.data.size = 105
    config.encoder.name = "koch"
    config.encoder.width = 64
    config.encoder.embedding = 4096
    config.batch.identities = 16
    config.batch.per_identity = 4
    config.batch.per_group = 16
    config.train.steps = 300
    config.train.validate_every = 30
    config.evaluation.validation_trials = 800
    return config
