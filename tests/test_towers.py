"""Two encoders, one for each side of a pair."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import PIL.Image
import pytest
from flax import linen as nn
from flax import nnx

import siamjax
from siamjax import encoders, heads, parallel, sampling
from siamjax.evaluation import drawn
from siamjax.run import Run, settings
from siamjax.train import train
from siamjax.training import batches, objectives, state
from siamjax.training.step import stepper, update


def turned(x):
    """Planes of two entries each, turned by a right angle: no linear map shared by both takes x and turned(x) closer to
    each other than to anything else."""
    x = x.reshape(len(x), -1, 2)
    return np.stack([-x[..., 1], x[..., 0]], axis=2).reshape(len(x), -1)


def pairs(count, seed):
    """Vectors, and noisy turned copies of them, or of others."""
    rng = np.random.default_rng(seed)
    (a, other), same = rng.normal(size=(2, count, 16)).astype(np.float32), rng.random(count) < 0.5
    b = np.where(same[:, None], a, other) + 0.3 * rng.normal(size=a.shape).astype(np.float32)
    return siamjax.Pairs(a, turned(b), same)


def init(key, x):
    return 0.3 * jax.random.normal(key, (x.shape[1], 16))


PEOPLE = 40  # on the list
LINEAR = dict(encoder=(init, lambda weights, x: x @ weights), optimizer=optax.adam(1e-2), validation=pairs(500, 1))


@pytest.fixture(scope="module")
def trained():
    return siamjax.fit(pairs(2000, 0), towers=2, steps=100, **LINEAR)


def accuracy(network, test):
    """By the fitted threshold, with each side embedded by its own tower, if there are two."""
    of_sides = [network, network] if network.towers == 1 else [network.tower(0), network.tower(1)]
    embeddings = np.concatenate([of_sides[0].embed(test.a), of_sides[1].embed(test.b)])
    scores = of_sides[0].score_pairs(embeddings, np.arange(len(embeddings)).reshape(2, -1).T)
    return np.mean(of_sides[0].decision.same(scores) == test.same)


@pytest.mark.parametrize(
    "given", [dict(loss="contrastive"), dict(loss="cosine_embedding"), dict(loss="cross_entropy", head="binary")]
)
def test_two_towers_learn_what_a_shared_encoder_cannot(given):
    test = pairs(1000, 2)
    shared = siamjax.fit(pairs(2000, 0), steps=120, **LINEAR, **given)
    two = siamjax.fit(pairs(2000, 0), towers=2, steps=120, **LINEAR, **given)
    assert accuracy(shared, test) < 0.6 and accuracy(two, test) > 0.93


def test_a_tower_embeds_its_side_with_its_own_weights(trained):
    test, weights = pairs(50, 3), trained.variables["encoder"]["params"]
    for side, x in (("first", test.a), ("second", test.b)):
        tower = trained.tower(("first", "second").index(side))
        np.testing.assert_allclose(tower.embed(x), x @ weights[side], rtol=1e-4, atol=1e-5)
        assert tower.decision == trained.decision
    # A query among a gallery of the other side.
    found = trained.tower(1).score_all(trained.tower(0).embed(test.a), trained.tower(1).embed(test.b)).argmax(axis=1)
    assert np.mean(found[test.same] == np.flatnonzero(test.same)) > 0.8


def test_pairs_are_scored_by_the_towers_of_their_sides(trained):
    x = np.concatenate([pairs(5, 4).a, pairs(5, 4).b])
    numbers = np.array([[0, 5], [5, 0], [3, 9], [3, 3]])
    first, second = trained.tower(0).embed(x), trained.tower(1).embed(x)
    expected = trained.tower(0).score_pairs(np.concatenate([first, second]), numbers + np.array([0, len(x)])[None])
    got = trained.score_pairs(trained.embed_pairs(x, numbers), numbers)
    np.testing.assert_allclose(got, expected, rtol=1e-5)
    assert got[0] != got[1]


def test_both_and_each_are_saved(trained, tmp_path):
    test, own = pairs(20, 5), LINEAR["encoder"]
    trained.save(tmp_path / "both")
    trained.tower(1).save(tmp_path / "second")
    both = siamjax.Network.load(tmp_path / "both", encoder=own)
    second = siamjax.Network.load(tmp_path / "second", encoder=own)
    assert (both.towers, second.towers) == (2, 1)
    np.testing.assert_array_equal(both.tower(0).embed(test.a), trained.tower(0).embed(test.a))
    np.testing.assert_array_equal(second.embed(test.b), trained.tower(1).embed(test.b))
    assert second.decision == trained.decision
    assert second.fingerprint == both.tower(1).fingerprint != both.tower(0).fingerprint
    with pytest.raises(ValueError, match="towers=1: both sides share"):
        second.tower(1)


class Own(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        x = nn.BatchNorm(use_running_average=not train, momentum=0.5)(x)
        return nn.Dense(4)(nn.Dropout(0.1, deterministic=not train)(x))


class OwnNnx(nnx.Module):
    def __init__(self, rngs):
        self.norm, self.last = nnx.BatchNorm(16, momentum=0.5, rngs=rngs), nnx.Linear(16, 4, rngs=rngs)

    def __call__(self, x):
        return self.last(self.norm(x))


@pytest.mark.parametrize("own", [Own(), OwnNnx(nnx.Rngs(0))], ids=["linen", "nnx"])
def test_own_encoders_have_weights_and_statistics_for_each_side(own, tmp_path):
    given = pairs(64, 7)
    given = siamjax.Pairs(given.a, given.b + 5, given.same)
    network = siamjax.fit(given, encoder=own, towers=2, steps=10)
    stats = jax.tree.map(np.mean, network.variables["encoder"]["batch_stats"])
    assert max(jax.tree.leaves(stats["first"])) < 2 < max(jax.tree.leaves(stats["second"]))
    network.save(tmp_path / "network")
    loaded = siamjax.Network.load(tmp_path / "network", encoder=own)
    for side, x in enumerate((given.a, given.b)):
        np.testing.assert_array_equal(loaded.tower(side).embed(x), network.tower(side).embed(x))


def test_what_has_no_sides_is_refused(trained):
    x, y = np.zeros((8, 16), np.float32), [0, 0, 1, 1, 2, 2, 3, 3]
    for given, message in (
        (dict(x=x, y=y), "towers=2 is for given pairs, .* the train data has labels"),
        (dict(x=pairs(64, 0), validation=(x, y)), "the validation data has labels"),
        (dict(x=pairs(64, 0), pairs=9), r"encoder\.towers=2: batch\.pairs = 9 .* multiple of 8|2 × batch\.pairs = 18"),
        (dict(x=pairs(64, 0), pairs=12), r"encoder\.towers=2: batch\.pairs = 12 .* multiple of 8"),
    ):
        with pytest.raises(ValueError, match=message):
            siamjax.fit(**given, towers=2)
    with pytest.raises(ValueError, match="chunk=2: two towers embed the whole batch at once"):
        siamjax.fit(pairs(64, 0), towers=2, chunk=2)
    with pytest.raises(ValueError, match="towers=3 must be 1"):
        siamjax.fit(pairs(64, 0), towers=3)
    with pytest.raises(
        ValueError, match=r"one for each side of a pair: use .* network\.tower\(0\) or network\.tower\(1"
    ):
        trained.embed(x)
    with pytest.raises(ValueError, match="side=2 must be 0"):
        trained.tower(2)


class Noisy(nn.Module):
    """Batch statistics over all devices, and noise from each input's own key."""

    axis_name: str | None = parallel.AXIS

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.BatchNorm(use_running_average=not train, momentum=0.5, axis_name=self.axis_name if train else None)(x)
        x = nn.Dense(8)(x)
        if not train:
            return x
        return x + jax.vmap(lambda key: jax.random.normal(key, (8,)))(self.get_variable("noise", "keys"))


def steps_of(devices):
    """The first state, and for each of three steps on `devices` the state after it, its loss and its batch."""
    given = siamjax.data.arrays.of_pairs(pairs(200, 6))
    model = state.Model(encoders.Towers(Noisy()), heads.make("distance"))
    objective, optimizer = objectives.make("contrastive", model.head, mode="pairs"), optax.sgd(0.1)
    made = batches.resident(
        functools.partial(sampling.given_pairs, count=24),
        lambda key, inputs, item: inputs[item],
        lambda keys, inputs: inputs,
        index=sampling.make_pair_index(*given.pairs),
        source=given.images,
        images=48,
        devices=devices,
    )
    seen = []

    def step(current, batch):
        following, metrics = update(current, batch, model=model, objective=objective, optimizer=optimizer)
        return following, metrics | {"batch": (batch.images, jax.random.key_data(batch.noise), batch.label)}

    start = state.create(model, jax.random.key(1), (16,), optimizer)
    take = stepper(step, made, jax.random.key(7), devices)
    current = parallel.replicate(start, devices)
    for number in range(3):
        current, metrics = take(current, number, 1)
        seen.append(jax.tree.map(np.array, metrics | {"after": current}))
    return start, seen


@pytest.fixture(scope="module")
def on_one():
    return steps_of(jax.devices()[:1])


@pytest.mark.parametrize("devices", [2, 3, 8])
def test_numbers_do_not_depend_on_the_number_of_devices(on_one, devices):
    """On three, the second device has inputs of both sides; on the others, each has those of one."""
    _, expected = on_one
    _, seen = steps_of(jax.devices()[:devices])
    np.testing.assert_allclose([each["loss"][0] for each in seen], [each["loss"][0] for each in expected], rtol=1e-5)
    ends = (jax.tree.leaves(each[-1]["after"]) for each in (seen, expected))
    for leaf, of_one in zip(*ends, strict=True):
        for replica in leaf:
            np.testing.assert_allclose(replica, of_one[0], rtol=1e-4, atol=1e-6)


def test_the_first_half_of_a_batch_trains_the_first_tower(on_one):
    """Compared with two encoders that are applied by hand, without devices."""
    start, seen = on_one
    after = seen[0]["after"]
    images, keys, label = (x[0] for x in seen[0]["batch"])

    def loss_of(params):
        embedded, stats = [], {}
        for side, rows in (("first", slice(0, 24)), ("second", slice(24, 48))):
            own = {"params": params[side], "batch_stats": start.batch_stats[side]}
            own["noise"] = {"keys": jax.random.wrap_key_data(keys[rows])}
            embeddings, updated = Noisy(None).apply(own, images[rows], train=True, mutable=["batch_stats"])
            embedded.append(embeddings)
            stats[side] = updated["batch_stats"]
        distance = jnp.linalg.norm(embedded[0] - embedded[1], axis=1)
        same = label[:24] == label[24:]
        return siamjax.losses.contrastive(distance, same), stats

    (loss, stats), gradient = jax.value_and_grad(loss_of, has_aux=True)(start.params["encoder"])
    np.testing.assert_allclose(seen[0]["loss"][0], loss, rtol=1e-5)
    moved = jax.tree.map(lambda weight, change: weight - 0.1 * change, start.params["encoder"], gradient)
    for got, expected in ((after.params["encoder"], moved), (after.batch_stats, stats)):
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x[0], y, rtol=1e-4, atol=1e-6), got, expected)


@pytest.fixture(scope="module")
def listed(tmp_path_factory):
    """A list of pairs: photos of four fields, and sketches, their turned negatives; some photos are first of a pair."""
    folder, rng, rows = tmp_path_factory.mktemp("listed"), np.random.default_rng(0), []
    for person in range(PEOPLE):
        fields = rng.uniform(30, 225, size=(2, 2))
        for number in range(3):
            photo = (fields + 4 * rng.normal(size=(2, 2))).clip(0, 255).repeat(4, axis=0).repeat(4, axis=1)
            for kind, pixels in (("photo", photo), ("sketch", 255 - np.rot90(photo))):
                PIL.Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{person}-{number}-{kind}.png")
            sketch = f"{person}-{number}-sketch.png"
            rows += [f"{sketch},{person}-{other}-photo.png,1" for other in range(3)]
            rows += [f"{sketch},{k}-{number}-photo.png,0" for k in range(PEOPLE) if k != person]
        rows += [f"{person}-0-photo.png,{k}-0-sketch.png,0" for k in range(PEOPLE) if k != person]
    (folder / "pairs.csv").write_text("path_a,path_b,same\n" + "\n".join(rows))
    config = settings.default()
    config.data.name, config.data.pairs.path, config.data.size = "pairs", str(folder / "pairs.csv"), 8
    config.data.data_dir, config.encoder.towers = str(folder / "cache"), 2
    config.batch.mode, config.loss.name, config.augment.name = "pairs", "contrastive", "none"
    config.head.name, config.head.distance.distance = "distance", "euclidean"
    config.batch.pairs, config.encoder.name, config.encoder.embedding, config.encoder.width = 64, "mlp", 8, 32
    config.train.steps = config.train.validate_every = 150
    train(config, folder / "run")
    return folder, config


def test_a_run_on_a_list_of_pairs_is_judged_by_the_towers_of_their_sides(listed):
    folder, config = listed
    network, run = siamjax.Network.load(folder / "run"), Run(folder / "run")
    datasets = siamjax.data.load(config.data)
    scores = {}
    for part in ("validation", "test"):
        numbers, same = datasets[part].pairs
        sides = [network.tower(side).embed(datasets[part].images[numbers[:, side]]) for side in (0, 1)]
        rows = np.arange(2 * len(numbers)).reshape(2, -1).T
        scores[part] = network.tower(0).score_pairs(np.concatenate(sides), rows), same
    of_test, same = scores["test"]
    answers = network.decision.same(of_test)
    assert run.figures.results["verification"]["accuracy"] == pytest.approx(np.mean(answers == same), abs=1e-3)
    assert (np.mean(answers[same]) + np.mean(~answers[~same])) / 2 > 0.85
    best = drawn.calibration.fit_threshold(*scores["validation"])
    assert network.decision.threshold == pytest.approx(best, rel=1e-3)


def test_sketches_are_answered_by_a_gallery_of_photos(listed, tmp_path):
    folder, _ = listed
    network = siamjax.Network.load(folder / "run")
    photos = [folder / f"{person}-0-photo.png" for person in range(PEOPLE)]
    sketches = [folder / f"{person}-1-sketch.png" for person in range(PEOPLE)]
    gallery = siamjax.Gallery.create(tmp_path / "gallery", network.tower(1))
    gallery.enroll(photos, [f"{person}" for person in range(PEOPLE)])
    found = gallery.identify(network.read(sketches), by=network.tower(0))
    right = np.mean([answer.ranked[0].identity == f"{person}" for person, answer in enumerate(found)])
    by_its_own = gallery.identify(network.read(sketches))
    assert right > 0.7 > 0.3 > np.mean([answer.ranked[0].identity == f"{k}" for k, answer in enumerate(by_its_own)])
    best = found[0].ranked[0]
    answer = network.verify(sketches[0], photos[int(best.identity)])
    assert (answer.score, answer.probability) == pytest.approx((best.score, best.probability), rel=1e-3)


def test_a_run_needs_pairs(tmp_path):
    np.savez(tmp_path / "people.npz", x=np.zeros((60, 8), np.float32), y=np.arange(60) // 2)
    config = settings.default()
    config.data.name, config.data.arrays.path, config.encoder.towers = "arrays", str(tmp_path / "people.npz"), 2
    with pytest.raises(ValueError, match=r"encoder\.towers=2 is for given pairs"):
        train(config, tmp_path / "run")
