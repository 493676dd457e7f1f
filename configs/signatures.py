"""Signatures: genuine or forged? CEDAR's skilled forgeries of signers not trained on.

    python launch.py --config configs/signatures.py --config.data.manual_dir=FOLDER

FOLDER has CEDAR, as a zip file or unpacked; see docs/signatures.md, also for your own scans. EER by five references and
by one, means over five folds, seed 0: 9.0 and 16.1 % for skilled forgeries, 1.5 and 2.5 % for other signers' signatures
(fold 0: 4.9 and 12.1 %, 0.0 and 0.5 %); 10 minutes of training each, on one core. It starts from `omniglot-fast`, which
knows handwriting. Each network is judged on a fifth of the signers, `--config.data.folder.fold=0` to 4; `python
benchmarks/photographs.py signatures --manual_dir FOLDER --folds 5` trains all five. A batch has signers with their
forgeries, as two identities of a group: per_group=2.
"""

from configs import default


def get_config():
    config = default.get_config()
    config.data.name = "cedar"
    config.data.size = 96
    config.data.width = 208  # with the size, eight times the map of the encoder and the head
    config.data.ink = True
    config.batch.identities = 16
    config.batch.per_identity = 4
    config.batch.per_group = 2
    config.augment.affine.probability = 0.8
    config.augment.affine.rotation = 7.0
    config.augment.affine.shear = 0.15
    config.augment.affine.scale = 0.12
    config.augment.affine.shift = 0.04
    config.augment.affine.bend = 0.015
    config.augment.affine.pen = 0.5
    config.encoder.name = "local56"
    config.encoder.width = 16
    config.encoder.embedding = 12 * 26 * 32
    config.head.name = "aligned"
    config.head.aligned.cells = 12
    config.head.aligned.columns = 26
    config.head.aligned.reach = 3
    config.optimizer.adamw.learning_rate = 1.5e-3
    config.optimizer.average = 0.99
    config.train.start = "omniglot-fast"
    config.train.steps = 400
    config.train.validate_every = 100
    config.train.keep = "last"
    config.evaluation.copies = 8
    return config
