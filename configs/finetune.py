"""Your own photographs, from an encoder trained on ImageNet: identities of any kind, in minutes on two CPU cores.

    python launch.py --config configs/finetune.py --config.data.folder.path=FOLDER

FOLDER has a subfolder for each identity; see docs/your-images.md. The weights of MobileNetV2 are downloaded once, or
taken from a file: `--config.encoder.weights=FILE`; see docs/pretrained.md. FIGURE
"""

from configs import default


def get_config():
    config = default.get_config()
    config.data.name = "folder"
    config.data.size = 112
    config.data.folder.channels = 3
    config.batch.identities = 16
    config.batch.per_identity = 4
    config.batch.per_group = 16
    config.batch.across_groups = True
    config.augment.name = "photo"
    config.augment.affine.probability = 0.8
    config.augment.affine.rotation = 8.0
    config.augment.affine.shear = 0.1
    config.augment.affine.scale = 0.12
    config.augment.affine.shift = 0.06
    config.augment.photo.erase = 0.4
    config.encoder.name = "mobilenet_v2"
    config.encoder.weights = "default"
    config.encoder.embedding = 256
    config.encoder.unit_length = True
    config.head.name = "distance"
    config.head.distance.distance = "cosine"
    config.loss.name = "ntxent"
    config.loss.ntxent.temperature = 0.2
    config.optimizer.adamw.learning_rate = 5e-4
    config.optimizer.average = 0.97
    config.train.steps = 120
    config.train.validate_every = 60
    config.train.keep = "last"
    config.evaluation.across_groups = True
    return config
