"""The face network of the tutorials, at 112×112 pixels, with a same/different head (cross-entropy).

    python launch.py --config configs/faces_binary.py --config.data.folder.path=FOLDER

See configs/faces.py for the content of FOLDER, and for a better recipe.

75.1 % verification on unseen people, trained on 18 of ORL's (five folds; docs/results.md).
"""

from configs import faces_contrastive


def get_config():
    config = faces_contrastive.get_config()
    config.head.name = "binary"
    config.loss.name = "cross_entropy"
    return config
