"""Faces in photographs from the news: LFW's pairs of people not trained on, without outside data.

    python launch.py --config configs/faces_lfw.py --config.data.manual_dir=FOLDER

FOLDER has LFW, as a zip file or unpacked, with pairs.txt; see docs/faces.md. Each network is judged on one of
View 2's ten folds, `--config.data.folder.fold=0` to 9; `python benchmarks/photographs.py faces_lfw --manual_dir FOLDER`
trains all ten, and prints the mean that the literature reports. Choose settings by View 1:
`--config.data.protocol=view1`.
"""

from configs import faces


def get_config():
    config = faces.get_config()
    config.data.name = "lfw"
    config.data.variants = 1
    config.batch.per_identity = 4
    config.batch.identities = 40
    config.batch.per_group = 40
    config.train.steps = 1000
    config.train.validate_every = 250
    return config
