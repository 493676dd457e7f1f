"""A small siamese network learns from drawn alphabets and recognises characters of new ones from one example.

    python launch.py

About two minutes on two cores; no file is needed.
"""

from configs import default


def get_config():
    config = default.get_config()
    config.augment.name = "none"  # the drawers vary enough
    config.train.steps = 220
    config.train.validate_every = 55
    return config
