"""Signatures: genuine or forged? CEDAR's skilled forgeries of signers not trained on.

    python launch.py --config configs/signatures.py --config.data.manual_dir=FOLDER

FOLDER has CEDAR, as a zip file or unpacked; see docs/signatures.md, also for your own scans. Each network is judged on
a fifth of the signers, `--config.data.folder.fold=0` to 4; `python benchmarks/photographs.py signatures --manual_dir
FOLDER` trains all five. A batch has signers with their forgeries, as two identities of a group: per_group=2.
"""

from configs import default


def get_config():
    config = default.get_config()
    config.data.name = "cedar"
    config.data.size = 64
    config.data.width = 144
    config.data.ink = True
    config.batch.identities = 16
    config.batch.per_identity = 4
    config.batch.per_group = 2
    config.augment.affine.probability = 0.8
    config.augment.affine.rotation = 5.0
    config.augment.affine.shear = 0.1
    config.augment.affine.scale = 0.1
    config.augment.affine.shift = 0.04
    config.encoder.name = "local56"
    config.encoder.width = 16
    config.encoder.embedding = 8 * 18 * 32
    config.head.name = "aligned"
    config.head.aligned.cells = 8
    config.head.aligned.columns = 18
    config.head.aligned.reach = 2
    config.loss.name = "ranking"
    config.optimizer.adamw.learning_rate = 3e-3
    config.optimizer.average = 0.99
    config.train.steps = 1000
    config.train.validate_every = 250
    config.train.keep = "last"
    return config
