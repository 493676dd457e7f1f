"""Koch's siamese network on Omniglot, trained on all pairs of each batch, with a budget for two CPU cores.

    python launch.py --config configs/koch_omniglot.py --config.data.manual_dir=FOLDER

Koch's encoder, weighted-L1 head, splits and distortions; 58.8 % on random 20-way one-shot trials after 17 minutes on
two CPU cores. In this time every drawing is seen only five times, so the weights start scaled to their fan-in.
configs/koch_full.py is the published recipe.
"""

from configs import default


def get_config():
    config = default.get_config()
    config.data.name = "omniglot"
    config.data.splits = "koch"
    config.data.size = 105
    config.encoder.name = "koch_scaled"
    config.encoder.width = 64
    config.encoder.embedding = 4096
    config.batch.identities = 12
    config.batch.per_group = 12
    config.optimizer.adamw.learning_rate = 1.5e-4
    config.train.steps = 1100
    config.train.validate_every = 110
    return config
