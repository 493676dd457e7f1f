"""Trained networks that come with the package: the weights of a run's best checkpoint with its configuration.

    python -m siamjax.pretrained runs/omniglot_fast omniglot-fast

makes `siamjax/weights/omniglot-fast.safetensors` of the run in that folder.
"""

import json
import pathlib
import sys

import flax.traverse_util
import ml_collections
import numpy as np
import safetensors
import safetensors.numpy

from siamjax.choices import choose
from siamjax.evaluation.scorer import Scorer
from siamjax.run import parts
from siamjax.training.checkpoint import restore_best

_FOLDER = pathlib.Path(__file__).parent / "weights"


def load(name: str, copies: int = 0) -> Scorer:
    """The trained network called `name`, ready to embed images and to score embeddings.

    Args:
      name: "omniglot-fast", the network of configs/omniglot_fast.py.
      copies: distorted copies of each image over which its embedding is averaged, too; 30 in the quoted figures.

    Returns:
      A `Scorer`: `embed` takes uint8 images [n, 28, 28, 1] with ink 255 on paper 0 to embeddings float32 [n, d], maps
      of 7×7 descriptors; `score_pairs`, `score_all` and `score_trials` give logits of "same".

    Raises:
      ValueError: there is no network of this name.
    """
    path = choose("the name of the trained network", name, {path.stem: path for path in _FOLDER.glob("*.safetensors")})
    with safetensors.safe_open(path, framework="np") as file:
        config = ml_collections.ConfigDict(json.loads(file.metadata()["config"]))
        tree = {name: file.get_tensor(name).astype(np.float32) for name in file.offset_keys()}
    tree = flax.traverse_util.unflatten_dict(tree, sep="/")
    shape = (config.data.size, config.data.size, 1)
    distort = parts.make_augment(config, hide=False)
    model, stats = parts.make_model(config), tree.get("batch_stats", {})
    return Scorer(model, tree["params"], stats, copies=copies, distort=distort, image_shape=shape)


def save(workdir: pathlib.Path, path: pathlib.Path):
    """Writes the best checkpoint of the run in `workdir` to `path`, with its configuration and figures.

    Weights are kept in 16 bits, which moves an embedding by about a thousandth of its length.

    Raises:
      FileNotFoundError: `workdir` holds no checkpoint.
    """
    text, results = ((workdir / name).read_text() for name in ("config.json", "results.json"))
    config = ml_collections.ConfigDict(json.loads(text))
    config.data.data_dir = config.data.manual_dir = ""  # They are nobody else's.
    trained = restore_best(parts.make_model(config), (config.data.size, config.data.size, 1), workdir)
    tree = {"params": trained.params, "batch_stats": trained.batch_stats}
    tree = {
        name: np.asarray(value, np.float16) for name, value in flax.traverse_util.flatten_dict(tree, sep="/").items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    safetensors.numpy.save_file(tree, path, metadata={"config": config.to_json(), "results": results})


if __name__ == "__main__":
    save(pathlib.Path(sys.argv[1]), _FOLDER / f"{sys.argv[2]}.safetensors")
