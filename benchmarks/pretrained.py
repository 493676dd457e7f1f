"""The speed of architectures with published weights, compared with torchvision's and timm's on the same CPU.

    python benchmarks/pretrained.py [--size 112] [--images 32] [NAME ...]

Prints a table: milliseconds, the least of several runs, to embed a batch, and for a step (forward and backward, batch
statistics, plain gradient descent) on all weights in float32. PyTorch runs in the memory layout that is faster.
"""

import argparse
import functools
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), ".."))

from siamjax import host

host.tune()

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

from siamjax import encoders  # noqa: E402
from siamjax.encoders import ARCHITECTURES  # noqa: E402

_TIMM = {"efficientnet_lite0": "efficientnet_lite0", "vit_s14": "vit_small_patch14_dinov2"}


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=["mobilenet_v2"], metavar="NAME", help=", ".join(ARCHITECTURES))
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--images", type=int, default=32)
    options = parser.parse_args()
    images = np.random.default_rng(0).uniform(size=(options.images, options.size, options.size, 3)).astype(np.float32)
    print(f"{options.images} images of {options.size}×{options.size}, float32, ms")
    print(f"{'':20} {'embed':>8} {'PyTorch':>8} {'ratio':>6} {'step':>8} {'PyTorch':>8} {'ratio':>6}")
    for name in options.names:
        ours, theirs = _siamjax(name, images), _pytorch(name, images)
        cells = [f"{own:8.0f} {other:8.0f} {other / own:6.2f}" for own, other in zip(ours, theirs, strict=True)]
        print(f"{name:20} {' '.join(cells)}")


def _siamjax(name, images):
    encoder = encoders.make(name, width=1, embedding=ARCHITECTURES[name].features)
    variables = jax.jit(encoder.init)(jax.random.key(0), images[:1])
    embed = jax.jit(encoder.apply)

    @functools.partial(jax.jit, donate_argnums=0)
    def step(variables, images):
        def loss(params):
            given = {**variables, "params": params}
            embeddings, updated = encoder.apply(given, images, train=True, mutable=["batch_stats"])
            return jnp.square(embeddings).mean(), updated

        grads, updated = jax.grad(loss, has_aux=True)(variables["params"])
        params = jax.tree.map(lambda value, grad: value - 1e-6 * grad, variables["params"], grads)
        return {"params": params, **updated}

    images = jax.device_put(images)
    embedding = _least(lambda: jax.block_until_ready(embed(variables, images)))

    def take():
        nonlocal variables
        variables = jax.block_until_ready(step(variables, images))

    return embedding, _least(take)


def _pytorch(name, images):
    try:
        import timm
        import torch
        import torchvision
    except ImportError:
        return np.nan, np.nan
    if name in _TIMM:
        model = timm.create_model(_TIMM[name], **({"dynamic_img_size": True} if name == "vit_s14" else {}))
    else:
        model = torchvision.models.get_model(name)
    times = []
    for layout in (torch.contiguous_format, torch.channels_last):
        model = model.to(memory_format=layout)
        x = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(memory_format=layout)
        optimizer = torch.optim.SGD(model.parameters(), 1e-6)

        def embed(model=model, x=x):
            with torch.inference_mode():
                model.eval()(x)

        def step(model=model, x=x, optimizer=optimizer):
            optimizer.zero_grad()
            model.train()(x).square().mean().backward()
            optimizer.step()

        times.append([_least(embed), _least(step)])
    return np.min(times, axis=0)


def _least(run, times=5):
    """Milliseconds of the fastest run, after one that compiles."""
    run()
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        run()
        taken.append(time.perf_counter() - start)
    return 1000 * min(taken)


if __name__ == "__main__":
    main()
