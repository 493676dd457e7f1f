"""Faces in photographs from the news: LFW's pairs of people not trained on, without outside data.

    python launch.py --config configs/faces_lfw.py --config.data.manual_dir=FOLDER

FOLDER has LFW, as a zip file or unpacked, with pairs.txt; see docs/faces.md. 90.2 % on View 2, AUC 97.0 (fold 0, seed
0; about an hour on one core), and 91.3 % after another hour, in a new folder: `--workdir FOLDER
--config.train.start=RUN --config.train.steps=3000 --config.optimizer.adamw.learning_rate=2e-3`.

Each network is judged on one of View 2's ten folds, `--config.data.folder.fold=0` to 9; `python
benchmarks/photographs.py faces_lfw --manual_dir FOLDER` trains all ten, and prints the mean that the literature
reports. Choose settings by View 1: `--config.data.protocol=view1`.

Faces that are aligned are compared place by place, as characters are by configs/omniglot_fast.py.
"""

from configs import faces


def get_config():
    config = faces.get_config()
    config.data.name = "lfw"
    config.data.size = 80
    config.data.variants = 1
    config.batch.per_identity = 4
    config.batch.identities = 40
    config.batch.per_group = 40
    config.encoder.name = "local56"
    config.encoder.width = 24
    config.encoder.unit_length = False
    config.encoder.embedding = 10 * 10 * 32
    config.head.name = "aligned"
    config.head.aligned.cells = 10
    config.loss.name = "ranking"
    config.optimizer.adamw.learning_rate = 3e-3
    config.train.steps = 2700
    config.train.validate_every = 900
    return config
