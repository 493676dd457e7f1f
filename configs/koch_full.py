"""Koch's published recipe: sampled pairs, SGD with momentum by layer, at most 200 epochs. Needs a GPU.

    python launch.py --config configs/koch_full.py --config.data.manual_dir=FOLDER

Batches of 128 pairs, half of them the same; an epoch has 150,000 pairs. Training stops after 20 epochs without a better
one-shot accuracy on 320 validation trials. The paper does not give the learning rates found by its search: those here
are within its search range, and have not been run to the end.
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
    config.augment.name = "affine"
    config.batch.mode = "pairs"
    config.batch.pairs = 128
    config.optimizer.name = "koch"
    config.train.epoch_steps = 150_000 // 128
    config.train.steps = 200 * config.train.epoch_steps
    config.train.validate_every = config.train.epoch_steps
    config.train.log_every = 100
    config.train.patience = 20
    config.evaluation.validation_trials = 320
    return config
