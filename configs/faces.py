"""Faces, or photographs of anything else with identities, from your own folder.

    python launch.py --config configs/faces.py --config.data.folder.path=FOLDER

FOLDER has a subfolder for each identity; see docs/your-images.md. A fifth of the identities is held out for the test, a
fifth for validation: `--config.data.folder.fold=0` to 4 chooses which.

94.2 % verification, an EER of 5.5 % and 95.9 % one-shot identification on unseen people, trained on 18 of ORL's (mean
of five folds; docs/results.md).
"""

from configs import default


def get_config():
    config = default.get_config()
    config.data.name = "folder"
    config.data.size = 56
    config.data.variants = 2
    config.batch.identities = 32
    config.batch.per_identity = 5
    config.batch.per_group = 32
    config.batch.across_groups = True
    config.augment.name = "photo"
    config.augment.affine.probability = 0.8
    config.augment.affine.rotation = 8.0
    config.augment.affine.shear = 0.1
    config.augment.affine.scale = 0.12
    config.augment.affine.shift = 0.06
    config.augment.photo.erase = 0.6
    config.encoder.name = "pyramid"
    config.encoder.width = 16
    config.encoder.unit_length = True
    config.head.name = "distance"
    config.head.distance.distance = "cosine"
    config.loss.name = "ntxent"
    config.loss.ntxent.temperature = 0.3
    config.optimizer.average = 0.99
    config.train.steps = 300
    config.train.validate_every = 100
    config.train.keep = "last"
    config.evaluation.across_groups = True
    config.evaluation.copies = 8
    return config
