"""Draws the pictures of docs/losses.md from the losses themselves: `python docs/draw_losses.py`."""

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from siamjax import distances, losses

FOLDER = pathlib.Path(__file__).parent / "images"
SAME, DIFFERENT, ANCHOR = "tab:green", "tab:red", "black"

POSITIVE_ANGLE = 40  # degrees from the anchor, both on the unit circle
SQUARED = {"distance": distances.pairwise_squared_euclidean}
FIELDS = {
    "batch_contrastive": {"margin": 1.0},
    "batch_linear_contrastive": {},
    "batch_exponential_contrastive": {},
    "batch_cosine_embedding": {},
    "batch_pairwise_sigmoid": {},
    "circle": {"gamma": 16.0},
    "batch_hard_triplet": {"margin": 0.5},
    "batch_hard_triplet, soft": {"soft": True},
    "batch_hard_triplet, squared": {"margin": 0.5, **SQUARED},
    "semi_hard_triplet": {"margin": 0.5},
    "angular": {},
    "n_pair": {},
    "ntxent": {"temperature": 0.2},
    "multi_similarity": {"beta": 10.0},
    "lifted_structure": {},
    "ranked_list": {},
}


def main():
    FOLDER.mkdir(exist_ok=True)
    save(pair_curves(), "pair_losses.png")
    save(fields(), "fields.png")


def save(figure, name):
    figure.savefig(FOLDER / name, dpi=80)
    print(FOLDER / name)


def pair_curves():
    """Each loss on given pairs, against the distance, the cosine or the logit of the pair."""
    distance, cosine, logit = (np.linspace(*ends, 200, dtype=np.float32) for ends in ((0, 1.8), (-1, 1), (-5, 5)))
    panels = {
        "contrastive, m = 1": ("distance", distance, losses.contrastive),
        "linear_contrastive, 0 and 1": ("distance", distance, losses.linear_contrastive),
        "double_margin_contrastive, 0.5 and 1": ("distance", distance, losses.double_margin_contrastive),
        "exponential_contrastive, Q = 1": ("distance", distance, losses.exponential_contrastive),
        "cosine_embedding, margin 0": ("cosine", cosine, of_cosine(losses.cosine_embedding)),
        "pairwise_sigmoid, t = 10, b = −10": ("cosine", cosine, of_cosine(losses.batch_pairwise_sigmoid)),
        "binary_cross_entropy": ("logit", logit, losses.binary_cross_entropy),
        "the same, smoothed by 0.2": (
            "logit",
            logit,
            functools.partial(losses.binary_cross_entropy, label_smoothing=0.2),
        ),
    }
    figure = Figure(figsize=(14, 6), layout="constrained")
    for axis, (title, (label, x, loss)) in zip(figure.subplots(2, 4).flat, panels.items(), strict=True):
        for same, colour, name in ((True, SAME, "same"), (False, DIFFERENT, "different")):
            axis.plot(x, loss(x, jnp.full(x.shape, same), reduce_fn=None), color=colour, label=name)
        axis.set(title=title, xlabel=f"{label} of the pair")
        axis.grid(alpha=0.3)
    figure.axes[0].set_ylabel("loss")
    figure.axes[4].set_ylabel("loss")
    figure.axes[0].legend()
    return figure


def of_cosine(loss):
    """A loss on two embeddings, as one of their cosine."""

    def on_cosine(cosine, same, reduce_fn):
        a = jnp.broadcast_to(jnp.array([1.0, 0.0]), (len(cosine), 2))
        b = jnp.stack([cosine, jnp.sqrt(1 - cosine**2)], axis=1)
        if loss is losses.cosine_embedding:
            return loss(a, b, same, reduce_fn=reduce_fn)
        labels = jnp.stack([jnp.zeros(len(same), int), jnp.where(same, 0, 1)], axis=1)
        return jax.vmap(loss)(jnp.stack([a, b], axis=1), labels)

    return on_cosine


def fields():
    """Where descent moves a negative from each place in the plane; darker where the loss is higher."""
    angle = np.radians(POSITIVE_ANGLE)
    anchor, positive = jnp.array([1.0, 0.0]), jnp.array([np.cos(angle), np.sin(angle)])
    across = np.linspace(-1.6, 1.6, 161)
    points = np.stack(np.meshgrid(across, across), axis=-1).astype(np.float32)
    labels = jnp.array([0, 0, 1])
    figure = Figure(figsize=(14, 14.6), layout="constrained")
    for axis, (title, options) in zip(figure.subplots(4, 4).flat, FIELDS.items(), strict=True):
        loss = functools.partial(getattr(losses, title.partition(",")[0]), **options)

        def value(negative, loss=loss):
            return loss(jnp.stack([anchor, positive, negative]), labels)

        height, slope = jax.jit(jax.vmap(jax.vmap(jax.value_and_grad(value))))(points)
        axis.contourf(across, across, height, levels=12, cmap="Oranges")
        sparse = slice(4, None, 8)
        place, arrow = points[sparse, sparse].reshape(-1, 2), -np.asarray(slope)[sparse, sparse].reshape(-1, 2)
        shown = np.linalg.norm(place, axis=1) > 0.4  # nearer to the origin, directions turn without bound
        axis.quiver(*place[shown].T, *arrow[shown].T, color="tab:blue")
        axis.add_patch(Circle((0, 0), 1, fill=False, linestyle=":", color="grey"))
        axis.plot(*anchor, "o", color=ANCHOR)
        axis.plot(*positive, "o", color=SAME)
        axis.set(title=title, aspect="equal", xticks=[], yticks=[])
    figure.suptitle(
        "Where descent moves a negative, given an anchor (black) and its positive (green); darker: higher loss"
    )
    return figure


if __name__ == "__main__":
    main()
