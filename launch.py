"""Trains a siamese network, or evaluates a trained one.

python launch.py                                            train the quickstart, then evaluate it
python launch.py --config configs/koch_omniglot.py          train another configuration, then evaluate it
python launch.py --mode evaluate --workdir runs/quickstart  evaluate a run again
python launch.py --coordinator HOST:PORT --processes 2 --process 0    one of two processes of a training
srun python launch.py --coordinator auto                    the same on SLURM, a TPU pod or Open MPI

--config.KEY=VALUE changes a setting; siamjax/run/settings.py lists all settings with their meaning. A run folder stores
its configuration: training it again resumes it, and evaluating it needs no --config.
"""

import sys

from siamjax import host

if __name__ == "__main__":
    host.tune()
    from siamjax.cli import training  # JAX may only be imported after the settings.

    training.run(training.Call("python launch.py", __doc__ or "", failure=1), sys.argv[1:])
