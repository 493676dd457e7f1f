"""`siamjax.fit` trains on arrays for real: small networks, a few seconds each."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import sklearn.datasets
from flax import linen as nn
from flax import nnx

import siamjax
from siamjax import data
from siamjax.data import arrays
from siamjax.run import settings
from siamjax.train import train

QUICK = dict(steps=60, identities=16, per_identity=4)


def people(identities, seed, noise=2.0):
    """Vectors of 12 features: four tell the identity, eight are noise on another scale. 8 inputs each."""
    rng = np.random.default_rng(seed)
    who = np.repeat(rng.normal(size=(identities, 4)), 8, axis=0)
    x = np.concatenate([who + 0.3 * rng.normal(size=who.shape), noise * rng.normal(size=(len(who), 8))], axis=1)
    return x.astype(np.float32), np.repeat(np.arange(identities), 8)


def recall(embeddings, y):
    distance = np.linalg.norm(embeddings[:, None] - embeddings[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    return np.mean(y[distance.argmin(axis=1)] == y)


@pytest.fixture(scope="module")
def trained():
    return siamjax.fit(*people(40, 0), validation=people(20, 2), **QUICK)


def test_new_identities_are_told_apart_better_than_by_the_raw_inputs(trained):
    x, y = people(20, 1)
    assert recall(trained.embed(x), y) > recall(x, y) + 0.15


def test_validation_fits_the_decision(trained):
    x, y = people(20, 1)
    pairs = np.random.default_rng(0).integers(0, len(x), (4000, 2))
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    same, scores = y[pairs[:, 0]] == y[pairs[:, 1]], trained.score_pairs(trained.embed(x), pairs)
    answers, probability = trained.decision.same(scores), trained.decision.probability(scores)
    assert (np.mean(answers[same]) + np.mean(~answers[~same])) / 2 > 0.75
    assert np.mean(probability[same]) > np.mean(probability[~same]) + 0.3


def test_labels_are_of_any_kind():
    x, y = people(8, 0)
    names = [("who", int(number)) if number % 2 else f"name {number}" for number in y]
    for labels in (names, y.astype(object) * 10**30, list(y), jnp.asarray(y)):
        np.testing.assert_array_equal(arrays.dataset(x, labels).label, y)


class Normalised(nn.Module):
    """Running statistics, dropout, and a collection of its own."""

    @nn.compact
    def __call__(self, x, *, train):
        calls = self.variable("count", "calls", lambda: jnp.zeros((), jnp.int32))
        if train:
            calls.value += 1
        x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(x)
        x = nn.Dropout(0.1, deterministic=not train)(nn.relu(nn.Dense(64)(x)))
        return nn.Dense(16)(x)


class Nnx(nnx.Module):
    def __init__(self, rngs):
        self.norm = nnx.BatchNorm(12, momentum=0.9, rngs=rngs)
        self.layers = nnx.List([nnx.Linear(12, 64, rngs=rngs), nnx.Linear(64, 16, rngs=rngs)])
        self.dropout = nnx.Dropout(0.1, rngs=rngs)

    def __call__(self, x):
        return self.layers[1](self.dropout(nnx.relu(self.layers[0](self.norm(x)))))


def init(key, x):
    return [0.1 * jax.random.normal(key, (x.shape[1], 16)), jnp.zeros(16)]


def apply(params, x):
    return x @ params[0] + params[1][None]


OWN = {"linen": Normalised(), "nnx": Nnx(nnx.Rngs(0)), "functions": (init, apply)}


@pytest.mark.parametrize("kind", OWN)
def test_an_encoder_of_ones_own_learns_and_is_saved(kind, tmp_path):
    network = siamjax.fit(*people(40, 0), encoder=OWN[kind], optimizer=optax.adam(3e-3), **QUICK | {"steps": 150})
    x, y = people(20, 1)
    embeddings = network.embed(x)
    assert recall(embeddings, y) > recall(x, y) + 0.1
    # Neither dropout nor the other inputs of a batch change an embedding.
    np.testing.assert_allclose(network.embed(x[:1]), embeddings[:1], rtol=1e-5, atol=1e-5)
    if kind == "linen":
        assert network.variables["encoder"]["batch_stats"]["count"]["calls"] == 150
    network.save(tmp_path / "network")
    loaded = siamjax.Network.load(tmp_path / "network", encoder=OWN[kind])
    np.testing.assert_array_equal(loaded.embed(x), embeddings)
    assert loaded.fingerprint == network.fingerprint
    with pytest.raises(ValueError, match="your own encoder: pass it"):
        siamjax.Network.load(tmp_path / "network")
    other = OWN["functions" if kind == "linen" else "linen"]
    with pytest.raises(ValueError, match="does not fit the encoder"):
        siamjax.Network.load(tmp_path / "network", encoder=other)


def test_a_network_with_an_encoder_of_the_package_is_saved_and_gives_a_gallery(trained, tmp_path):
    x, _ = people(20, 1)
    trained.save(tmp_path / "network")
    loaded = siamjax.Network.load(tmp_path / "network")
    np.testing.assert_array_equal(loaded.embed(x), trained.embed(x))
    assert loaded.decision == trained.decision
    with pytest.raises(ValueError, match="not image files"):
        loaded.read(["a.png"])
    gallery = siamjax.Gallery.create(tmp_path / "gallery", trained)
    assert gallery.enroll(x[:10], range(10)) == {}
    gallery = siamjax.Gallery(tmp_path / "gallery")
    assert [matches[0].identity for matches in gallery.search(x[:10], k=1)] == [str(number) for number in range(10)]
    with pytest.raises(ValueError, match="found 9, expected one for each of 10 images"):
        gallery.enroll(x[:10], range(9))
    with pytest.raises(ValueError, match="this network takes inputs float32"):
        gallery.enroll(x[:10, :3], range(10))
    with pytest.raises(ValueError, match="identities='bob': expected a list"):
        gallery.enroll(x[:3], "bob")
    with pytest.raises(ValueError, match="an identity needs a name"):
        gallery.enroll(x[:2], ["ann", np.nan])
    assert len(gallery) == 10


@pytest.mark.thorough
def test_pairs_are_learned_from_and_validated_on():
    def pairs(seed):
        (x, y), rng = people(30, seed), np.random.default_rng(seed)
        a = rng.integers(0, len(x), 1000)
        b = np.where(rng.random(1000) < 0.3, a // 8 * 8 + rng.integers(0, 8, 1000), rng.integers(0, len(x), 1000))
        return siamjax.Pairs(x[a], x[b], y[a] == y[b])

    held_out = pairs(1)
    for given in (dict(loss="cosine_embedding"), dict(loss="cross_entropy", head="binary")):
        network = siamjax.fit(pairs(0), validation=held_out, steps=150, **given)
        test = pairs(2)
        embeddings, rows = network.embed(np.concatenate([test.a, test.b])), np.arange(2000).reshape(2, -1).T
        answers = network.decision.same(network.score_pairs(embeddings, rows))
        assert (np.mean(answers[test.same]) + np.mean(~answers[~test.same])) / 2 > 0.75, given


def test_losses_heads_and_augmentations_of_ones_own():
    seen = []

    def loss(embeddings, labels):
        seen.append(embeddings.shape)
        return siamjax.losses.batch_all_triplet(embeddings, labels, margin=0.1)

    def shift(keys, x):
        return x + 0.01 * jax.vmap(lambda key: jax.random.normal(key, x.shape[1:]))(keys)

    steps = []
    network = siamjax.fit(
        *people(20, 0),
        loss=loss,
        head=siamjax.heads.Bilinear(),
        augment=shift,
        callbacks=[lambda step, metrics, state: steps.append((step, metrics["loss"]))],
        **QUICK | {"steps": 30},
    )
    assert seen[0][0] == 64
    assert [step for step, _ in steps] == [1, 10, 20, 30][-len(steps) :] and all(np.isfinite(loss) for _, loss in steps)
    assert network.score_pairs(network.embed(people(4, 1)[0]), np.array([[0, 1]])).shape == (1,)


@pytest.mark.thorough
def test_images_series_and_flat_images_are_taken():
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(6), 6)
    for x in (
        rng.integers(0, 255, (36, 16, 16, 3), np.uint8),
        rng.normal(size=(36, 50, 2)),
    ):
        network = siamjax.fit(x, y, steps=2, embedding=8)
        assert network.embed(x).shape == (36, 8)
        with pytest.raises(ValueError, match="this network takes"):
            network.embed(x[:, 1:])


@pytest.mark.thorough
def test_a_first_try_on_few_identities_does_no_harm():
    """Digits 0 to 5 teach little about 6 to 9: encoders of layers alone end at 0.85 to 0.93, standardised pixels have
    0.987."""
    digits = sklearn.datasets.load_digits()
    known = digits.target < 6
    network = siamjax.fit(digits.images[known], digits.target[known], steps=200)
    assert recall(network.embed(digits.images[~known]), digits.target[~known]) > 0.975


@pytest.mark.thorough
def test_a_folder_resumes_to_the_same_bits_and_is_a_run(tmp_path):
    given = dict(encoder=Normalised(), validation=people(20, 2), **QUICK | {"steps": 200})
    whole = siamjax.fit(*people(20, 0), **given)

    def stop(step, metrics, state):
        if step == 150:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        siamjax.fit(*people(20, 0), workdir=tmp_path / "run", callbacks=[stop], **given)
    resumed = siamjax.fit(*people(20, 0), workdir=tmp_path / "run", **given)
    x, _ = people(4, 1)
    loaded = siamjax.Network.load(tmp_path / "run", encoder=Normalised())
    for other in (resumed, loaded):
        np.testing.assert_array_equal(other.embed(x), whole.embed(x))
        assert other.decision == whole.decision
    for x, other in (
        (people(20, 3), {}),
        (people(20, 0), {"validation": people(20, 4)}),
        (people(20, 0), {"optimizer": optax.adam(1e-3)}),
    ):
        with pytest.raises(ValueError, match=r"data\.arrays\.digest was"):
            siamjax.fit(*x, workdir=tmp_path / "run", **given | other)


@pytest.mark.thorough
@pytest.mark.parametrize("taught", [False, True])
def test_launch_gives_the_same_numbers_for_the_same_settings(taught, trained, tmp_path):
    """On the training part of a file of arrays; with a teacher, too."""
    x, y = people(30, 0)
    np.savez(tmp_path / "people.npz", x=x, y=y)
    trained.save(tmp_path / "teacher")
    config = settings.default()
    config.data.name, config.data.arrays.path = "arrays", str(tmp_path / "people.npz")
    part = data.load(config.data)["train"]
    network = siamjax.fit(part.images, part.label, teacher=trained if taught else None, **QUICK | {"steps": 20})
    config = network.settings.copy_and_resolve_references()
    config.train.teacher = str(tmp_path / "teacher") if taught else ""
    config.data.arrays.path, config.evaluation.pairs = str(tmp_path / "people.npz"), 200
    config.evaluation.trials = config.evaluation.validation_trials = 200
    train(config, tmp_path / "run")
    for expected, got in zip(
        *(jax.tree.leaves(each.variables) for each in (network, siamjax.Network.load(tmp_path / "run"))), strict=True
    ):
        np.testing.assert_array_equal(got, expected)


def test_pairs_are_compared_by_the_distance_of_their_loss():
    for loss, distance in (
        ("contrastive", "euclidean"),
        ("exponential_contrastive", "l1"),
        ("cosine_embedding", "cosine"),
    ):
        assert siamjax.fit(PAIRS, loss=loss, steps=1).model.head.distance == distance


def test_identities_with_few_inputs_fill_a_batch():
    x, y = people(8, 0)
    few = np.arange(64) % 8 < 2
    assert siamjax.fit(x[few], y[few], steps=1).embed(x).shape == (64, 128)


@pytest.mark.thorough
def test_folds_are_verified_on_identities_that_were_not_trained_on():
    figures = siamjax.cross_validate(*people(24, 0), folds=3, test_pairs=400, **QUICK)
    assert figures["accuracy"].shape == (3,) and figures["accuracy"].mean() > 0.65 and figures["auc"].mean() > 0.75


@pytest.mark.parametrize(
    ("folds", "told"), [(1, "folds=1 must be a whole number, at least 3"), (9, "folds=9 parts need")]
)
def test_folds_that_cannot_be_made_are_refused_by_their_own_name(folds, told):
    with pytest.raises(ValueError, match=f"^{told}"):
        siamjax.cross_validate(*people(8, 0), folds=folds)


X, Y = people(8, 0)
PAIRS = siamjax.Pairs(X[:32], X[32:], np.arange(32) % 2)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (dict(x=X), "a label for each"),
        (dict(x=X, y=Y[:-1]), "y: found 63 labels for 64 inputs"),
        (dict(x=X[:, 0], y=Y), r"x: found shape \[64\]"),
        (dict(x=X * np.nan, y=Y), r"x\[0\] holds NaN"),
        (dict(x=X.astype(str), y=Y), "expected numbers"),
        (dict(x=X, y=[[1]] * 64), r"y\[0\]=\[1\] is no label"),
        (dict(x=X, y=np.zeros(64, int)), "single identity"),
        (dict(x=X, y=np.arange(64)), "two images"),
        (dict(x=X, y=Y, steps=0), "steps=0 must be a whole number, at least 1"),
        (dict(x=X, y=Y, encoder="vgg"), "encoder.*'vgg' is not known"),
        (dict(x=X, y=Y, encoder="koch"), "does not take inputs"),
        (dict(x=X, y=Y, encoder=len), "encoder: found"),
        (dict(x=X, y=Y, encoder=(init, lambda params, x: x[:, 0])), r"expected floats \[\d+, d\]"),
        (dict(x=X, y=Y, loss="triplets"), "'triplets' is not known"),
        (dict(x=X, y=Y, loss=lambda embeddings, labels: embeddings[:, 0]), "take the mean"),
        (dict(x=X, y=Y, loss=lambda embeddings: 0), "the loss does not take"),
        (dict(x=X, y=Y, augment="blur"), "'blur' is not known"),
        (dict(x=X, y=Y, validation=(X[:5], Y[:4])), "validation: y: found 4 labels"),
        (dict(x=siamjax.Pairs(X, X[:5], Y)), "of the same shape"),
        (dict(x=siamjax.Pairs(X, X, Y)), "expected both 1"),
        (dict(x=PAIRS, loss="ntxent"), "loss='ntxent' compares all inputs .* .contrastive,"),
        (dict(x=PAIRS, loss=siamjax.losses.ntxent), "compares all inputs of a batch by their labels"),
        (dict(x=X, y=[None, *Y[1:]]), r"labels\[0\] is None, which is no identity"),
        (dict(x=X, y=Y, validation=(X.astype(np.uint8), Y)), "validation: found inputs uint8 .12., expected float32"),
        (dict(x=X, y=Y, validation=(X[:, :5], Y)), "validation: found inputs float32 .5., expected float32 .12."),
        (dict(x=X.reshape(64, 3, 2, 2), y=Y, augment="photo"), "augment='photo' is for images in 0..1"),
        (dict(x=X, y=Y, validation=X), r"validation=\(x, y\), or Pairs"),
        (dict(x=X, y=Y, validation=(X, Y)), "64 of its 64 inputs are trained on"),
        (dict(x=X, y=Y, steps=2.5), "steps=2.5 must be a whole number"),
        (dict(x=X, y=Y, augment="affine"), "augment does not take inputs"),
        (dict(x=X, y=Y, augment=lambda keys, x: x[:, :5]), "augment gives .* expected the same shape"),
    ],
)
def test_a_mistake_is_named_before_training(arguments, words):
    with pytest.raises(ValueError, match=words):
        siamjax.fit(**arguments)
