"""The face network of the tutorials, at 112×112 pixels, with contrastive loss (Hadsell 2006, margin 1).

    python launch.py --config configs/faces_contrastive.py --config.data.folder.path=FOLDER

See configs/faces.py for the content of FOLDER, and for a better recipe.

83.2 % verification on unseen people, trained on 18 of ORL's (five folds; docs/results.md).
"""

from configs import default


def get_config():
    config = default.get_config()
    config.data.name = "folder"
    config.data.size = 112
    config.batch.identities = 16
    config.batch.per_identity = 5
    config.batch.across_groups = True
    config.augment.name = "none"
    config.encoder.name = "faces"
    config.encoder.width = 32
    config.encoder.embedding = 128
    config.head.name = "distance"
    config.loss.name = "batch_contrastive"
    config.optimizer.adamw.learning_rate = 1e-3
    config.train.steps = 150
    config.train.validate_every = 50
    config.evaluation.across_groups = True
    return config
