"""Faces from the front and from the side: CFP's frontal and profile photographs of people not trained on.

    python launch.py --config configs/faces_front_profile.py --config.data.manual_dir=FOLDER

FOLDER has CFP, as a zip file or unpacked; see docs/faces.md. 83.1 % on pairs of two frontal photographs and 81.1 % on
pairs of a frontal and a profile one (fold 0, seed 0; 22 minutes). Each network is judged on one of ten folds,
`--config.data.folder.fold=0` to 9; `python benchmarks/photographs.py faces_front_profile --manual_dir FOLDER` trains
all ten, and prints the means that the literature reports.
"""

from configs import faces


def get_config():
    config = faces.get_config()
    config.data.name = "cfp"
    config.batch.per_identity = 6
    config.train.steps = 1500
    config.train.validate_every = 250
    return config
