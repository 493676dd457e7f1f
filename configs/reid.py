"""Which animal, person or thing is it? A network of your own for colour photographs, one folder each, few images in it.

    python launch.py --config configs/reid.py --config.data.folder.path=FOLDER

FOLDER has a subfolder for each individual; see docs/reid.md. Nothing is downloaded. With MobileNetV2's weights at
hand, configs/finetune.py recognises more.
"""

from configs import faces


def get_config():
    config = faces.get_config()
    config.data.size = 80
    config.data.folder.channels = 3
    config.batch.per_identity = 4
    config.augment.photo.colour = 0.2
    config.train.steps = 400
    return config
