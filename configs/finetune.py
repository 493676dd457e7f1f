"""Photographs of anything, from your own folder, by an encoder that has seen a million others: MobileNetV2, fine-tuned.

    python launch.py --config configs/finetune.py --config.data.folder.path=FOLDER --config.encoder.weights=FILE

FOLDER has a subfolder for each identity, see docs/your-images.md; FILE has MobileNetV2's weights for ImageNet, see
docs/pretrained.md. Without --config.encoder.weights they are looked for where that page says, or downloaded.
"""

from configs import faces


def get_config():
    config = faces.get_config()
    config.data.size = 112
    config.data.folder.channels = 3
    config.data.variants = 1
    config.batch.identities = 16
    config.batch.per_identity = 4
    config.batch.per_group = 16
    config.encoder.name = "mobilenet_v2"
    config.encoder.weights = "default"
    config.encoder.embedding = 256
    config.loss.ntxent.temperature = 0.1
    config.optimizer.adamw.learning_rate = 1e-3
    config.optimizer.adamw.pretrained_share = 0.1
    config.train.steps = 200
    config.train.validate_every = 50
    config.evaluation.copies = 4
    return config
