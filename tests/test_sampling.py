import collections
import functools

import jax
import numpy as np
import pytest

from siamjax import sampling
from siamjax.data.dataset import Dataset

KEYS = [jax.random.key(seed) for seed in range(30)]


@pytest.fixture(scope="module")
def ragged():
    """Three groups of 2, 5 and 9 identities with 2 to 6 images each, in shuffled order."""
    rng = np.random.default_rng(3)
    rows = []
    label = 0
    for group, identities in enumerate([2, 5, 9]):
        for _ in range(identities):
            rows += [(label, group, source) for source in range(rng.integers(2, 7))]
            label += 1
    label, group, source = rng.permutation(np.array(rows, np.int32)).T
    return Dataset(np.zeros((len(rows), 4, 4, 1), np.uint8), label, group, source, ("a", "b", "c"))


def draw_pairs(dataset, count, across_groups):
    index = sampling.make_index(dataset)
    draw = jax.jit(functools.partial(sampling.pairs, count=count, across_groups=across_groups))
    for key in KEYS:
        yield jax.tree.map(lambda x: np.asarray(x).reshape(2, count), draw(key, index))


@pytest.mark.parametrize("across_groups", [False, True])
def test_pairs_are_same_or_different_as_labelled(ragged, across_groups):
    met = collections.Counter()
    for batch in draw_pairs(ragged, 20, across_groups):
        np.testing.assert_array_equal(ragged.label[batch.item], batch.label)
        np.testing.assert_array_equal(ragged.group[batch.item], batch.group)
        same = batch.label[0] == batch.label[1]
        assert same.sum() == 10
        assert np.all(batch.item[0] != batch.item[1])
        within = batch.group[0] == batch.group[1]
        assert np.all(within[same])
        met.update(zip(same.tolist(), within.tolist(), strict=True))
    if across_groups:
        assert met[False, False] > met[False, True] > 0
    else:
        assert met[False, False] == 0


def test_groups_have_equally_many_pairs_however_many_identities_they_have(ragged):
    for batch in draw_pairs(ragged, 24, False):
        same = batch.label[0] == batch.label[1]
        for kind in (same, ~same):
            np.testing.assert_array_equal(np.bincount(batch.group[0][kind], minlength=3), [4, 4, 4])


def test_every_image_and_every_combination_within_a_label_occurs(ragged):
    met = {tuple(pair) for batch in draw_pairs(ragged, 48, False) for pair in batch.item.T}
    assert {item for pair in met for item in pair} == set(range(len(ragged)))
    first = np.flatnonzero(ragged.group == 0)
    expected = {(a, b) for a in first for b in first if a != b}
    assert {pair for pair in met if ragged.group[pair[0]] == 0} == expected


def test_pxk_batches_take_whole_groups_without_repetition(ragged):
    index = sampling.make_index(ragged)
    draw = jax.jit(functools.partial(sampling.identities, count=7, per_identity=2, per_group=4))
    first_groups = collections.Counter()
    for key in KEYS:
        batch = jax.tree.map(np.asarray, draw(key, index))
        assert len(set(batch.item)) == 14
        np.testing.assert_array_equal(ragged.label[batch.item], batch.label)
        np.testing.assert_array_equal(ragged.group[batch.item], batch.group)
        assert list(collections.Counter(batch.label).values()) == [2] * 7
        taken = collections.Counter(batch.group[::2])
        assert max(taken.values()) <= 4
        # All but the last group met give as many as they can.
        order = list(dict.fromkeys(batch.group.tolist()))
        assert all(taken[group] == min(4, [2, 5, 9][group]) for group in order[:-1])
        first_groups[order[0]] += 1
    assert set(first_groups) == {0, 1, 2}


def test_grid_index_numbers_images_in_order():
    index = sampling.grid_index(2, 3, 4)
    images = np.arange(24)
    dataset = Dataset(
        np.zeros((24, 1, 1, 1), np.uint8),
        (images // 4).astype(np.int32),
        (images // 12).astype(np.int32),
        (images % 4).astype(np.int32),
        ("a", "b"),
    )
    for got, expected in zip(jax.tree.leaves(index), jax.tree.leaves(sampling.make_index(dataset)), strict=True):
        np.testing.assert_array_equal(got, expected)


def test_impossible_batches_are_refused_by_key(ragged):
    index = sampling.make_index(ragged)
    assert sampling.most_identities(index, per_identity=2, per_group=4) == 10
    single = sampling.grid_index(2, 3, 1)
    with pytest.raises(ValueError, match="single image"):
        sampling.check_pairs(single, across_groups=False)
    lonely = sampling.grid_index(2, 1, 3)
    with pytest.raises(ValueError, match="across_groups=True"):
        sampling.check_pairs(lonely, across_groups=False)
    sampling.check_pairs(lonely, across_groups=True)


@pytest.mark.parametrize("turns", [4, 8])
def test_a_group_is_turned_as_a_whole_and_by_every_turn(ragged, turns):
    index = sampling.make_index(ragged)
    draw = jax.jit(functools.partial(sampling.identities, count=8, per_identity=2, per_group=5, turns=turns))
    met = set()
    for key in KEYS:
        batch = draw(key, index)
        for group in np.unique(batch.group):
            of_group = np.unique(np.asarray(batch.turn)[np.asarray(batch.group) == group])
            assert len(of_group) == 1
            met.add(int(of_group[0]))
    assert met == set(range(turns))
    plain = functools.partial(sampling.identities, count=8, per_identity=2, per_group=5)(KEYS[0], index)
    assert plain.turn is None
    np.testing.assert_array_equal(plain.item, draw(KEYS[0], index).item)


def test_heavier_groups_come_more_often(ragged):
    index = sampling.make_index(ragged, np.float32([0.1, 0.6, 0.3]))
    draw = jax.jit(functools.partial(sampling.identities, count=2, per_identity=2, per_group=2))
    groups = [int(draw(jax.random.key(seed), index).group[0]) for seed in range(300)]
    np.testing.assert_allclose(np.bincount(groups, minlength=3) / 300, [0.1, 0.6, 0.3], atol=0.08)


def long_tail():
    """30 identities in four groups, most with one or two images."""
    images = np.array([1] * 17 + [2] * 8 + [5] * 4 + [9])
    label = np.repeat(np.arange(30), images).astype(np.int32)
    return Dataset(np.zeros((len(label), 4, 4, 1), np.uint8), label, label % 4, np.zeros_like(label), tuple("abcd"))


def test_identities_with_few_images_contribute_all_and_no_image_repeats():
    dataset = long_tail()
    index = sampling.make_index(dataset)
    assert sampling.most_identities(index, per_identity=4, per_group=4) == 13  # of 53 images, four at most of each
    draw = jax.jit(functools.partial(sampling.identities, count=10, per_identity=4, per_group=4, few=True))
    met = collections.Counter()
    for key in KEYS:
        batch = jax.tree.map(np.asarray, draw(key, index))
        assert len(batch.item) == 40 == len(set(batch.item))
        np.testing.assert_array_equal(dataset.label[batch.item], batch.label)
        np.testing.assert_array_equal(dataset.group[batch.item], batch.group)
        for label, images in collections.Counter(batch.label[:-4]).items():  # the last one may be cut
            assert images <= min(4, index.images[label])
        assert sum(np.minimum(np.bincount(batch.label), 4) >= 2) >= 5
        met.update(batch.item.tolist())
    assert set(met) == set(range(len(dataset)))


def test_few_changes_nothing_where_all_identities_have_enough_images(ragged):
    index = sampling.make_index(ragged)
    for key in KEYS[:5]:
        with_few = sampling.identities(key, index, count=7, per_identity=2, per_group=9, few=True)
        assert set(collections.Counter(np.asarray(with_few.label).tolist()).values()) == {2}


def test_data_without_two_images_of_an_identity_is_refused():
    label = np.arange(6, dtype=np.int32)
    single = Dataset(np.zeros((6, 4, 4, 1), np.uint8), label, 0 * label, 0 * label, ("a",))
    with pytest.raises(ValueError, match="no identity has two images"):
        sampling.most_identities(sampling.make_index(single), per_identity=2, per_group=9)
    with pytest.raises(ValueError, match="a single identity"):
        sampling.most_identities(sampling.grid_index(1, 1, 5), per_identity=2, per_group=9)


def test_variants_are_separate_identities_with_the_same_images():
    label = np.array([0, 0, 1, 1, 1, 2, 2], np.int32)
    group = np.array([0, 0, 0, 0, 0, 1, 1], np.int32)
    images = np.zeros((7, 2, 2, 1), np.uint8)
    index = sampling.with_variants(sampling.make_index(Dataset(images, label, group, group, ("a", "b"))))
    batch = sampling.identities(jax.random.key(0), index, count=6, per_identity=2, per_group=9)
    assert sorted(set(np.asarray(batch.label).tolist())) == [0, 1, 2, 3, 4, 5]
    np.testing.assert_array_equal(label[batch.item], batch.label % 3)
    np.testing.assert_array_equal(group[batch.item], batch.group)
    few = sampling.identities(jax.random.key(1), index, count=2, per_identity=2, per_group=1)
    assert sorted(few.group[::2].tolist()) == [0, 1]


def test_images_of_an_identity_are_of_as_many_sources_as_it_has():
    """Identity 0 has two images from the front and five from the side, 1 four and one, 2 three from the front alone."""
    label = np.array([0] * 7 + [1] * 5 + [2] * 3, np.int32)
    source = np.array([0] * 2 + [1] * 5 + [0] * 4 + [1] + [0] * 3, np.int32)
    order = np.random.default_rng(0).permutation(15)
    label, source, zeros = label[order], source[order], np.zeros(15, np.int32)
    index = sampling.make_index(Dataset(np.zeros((15, 2, 2, 1), np.uint8), label, zeros, source, ("a",)))
    for tables in (index, sampling.with_variants(index)):
        tables = sampling.with_sources(tables, source)
        for per_identity, expected in ((2, {0: [1, 1], 1: [1, 1], 2: [2, 0]}), (3, {0: [], 1: [2, 1], 2: [3, 0]})):
            draw = jax.jit(functools.partial(sampling.identities, count=3, per_identity=per_identity, per_group=9))
            seen = collections.defaultdict(set)
            for key in KEYS:
                batch = draw(key, tables)
                for number in np.unique(batch.label):
                    items = np.asarray(batch.item)[batch.label == number]
                    assert len(set(items.tolist())) == per_identity and set(label[items]) == {number % 3}
                    sources = np.bincount(source[items], minlength=2).tolist()
                    assert sources == expected[number % 3] or (not expected[number % 3] and min(sources) == 1)
                    seen[number % 3] |= set(items.tolist())
            assert sorted(seen[0] | seen[1] | seen[2]) == list(range(15)), "every image comes into a batch"


NAMES = ["ada"] * 5 + ["bo"] * 2 + ["cy"] * 7 + ["di"] + ["ed"] * 4 + ["fa"] * 3


def test_balanced_batches_of_any_labels_also_when_closed_over():
    sampler = sampling.Balanced(NAMES, identities=3, per_identity=2)
    draw = jax.jit(lambda key: sampler(key))
    for key in KEYS[:9]:
        drawn = draw(key)
        assert drawn.item.shape == (6,) and len(set(np.asarray(drawn.item).tolist())) == 6
        assert [sampler.names[label] for label in drawn.label] == [NAMES[item] for item in drawn.item]
    many = jax.jit(jax.vmap(sampler))(jax.random.split(jax.random.key(5), 300)).item
    assert set(np.asarray(many).ravel().tolist()) == set(range(len(NAMES)))
    np.testing.assert_array_equal(sampler(KEYS[0]).item, draw(KEYS[0]).item)


def test_balanced_batches_of_few_items_are_full():
    # K items where an identity has them, all of it where not; and P as large as the data can fill.
    sampler = sampling.Balanced([2**40, 2**40, 7, 7, 7, (1, "x")], identities=9, per_identity=3)
    assert (sampler.identities, sampler.per_identity) == (2, 3)
    for key in KEYS[:5]:
        assert set(np.asarray(sampler(key).item).tolist()) == set(range(6))


def test_balanced_batches_take_whole_groups():
    labels, groups = np.arange(24) // 2, ["a", "b", "c"] * 8
    groups = [groups[label] for label in labels]
    sampler = sampling.Balanced(labels, identities=4, per_identity=2, groups=groups, per_group=4)
    for key in KEYS[:5]:
        assert len({groups[item] for item in sampler(key).item}) == 1


def test_pairs_of_plain_labels():
    sampler = sampling.Pairs(np.array(NAMES), count=8)
    assert sampler.names == ("ada", "bo", "cy", "ed", "fa")  # "di" has a single item
    draw = jax.jit(lambda key: sampler(key))
    for key in KEYS[:9]:
        drawn = jax.tree.map(np.asarray, draw(key))
        first, second = ([NAMES[item] for item in half] for half in np.split(drawn.item, 2))
        assert [a == b for a, b in zip(first, second, strict=True)] == [True, False] * 4
        assert np.all(np.subtract(*np.split(drawn.item, 2)) != 0) and "di" not in first + second
        assert [sampler.names[label] for label in drawn.label] == first + second


def test_triplets_of_plain_labels():
    sampler = sampling.Triplets(NAMES, count=10)
    draw, met = jax.jit(lambda key: sampler(key)), collections.Counter()
    for key in KEYS:
        drawn = jax.tree.map(np.asarray, draw(key))
        parts = [[NAMES[item] for item in third] for third in np.split(drawn.item, 3)]
        anchors, positives, _ = np.split(drawn.item, 3)
        assert parts[0] == parts[1] and np.all(anchors != positives)
        assert all(a != n for a, n in zip(parts[0], parts[2], strict=True))
        assert [sampler.names[label] for label in drawn.label] == parts[0] + parts[1] + parts[2]
        met.update(parts[0])
    assert set(met) == set(NAMES) - {"di"} and min(met.values()) > 30  # 60 each, on average


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: sampling.Balanced([1, 1, 2, 2], identities=1, per_identity=2),
            "identities=1, per_identity=2:",
        ),
        (lambda: sampling.Balanced([1, 2, 3], identities=2, per_identity=2), "no identity has two images"),
        (lambda: sampling.Balanced([1, 1, 1], identities=2, per_identity=2), "a single identity"),
        (lambda: sampling.Balanced([1, 1, 2], identities=2, per_identity=4), "per_identity=4 is more than the items"),
        (
            lambda: sampling.Balanced([1, 1, 2], identities=2, per_identity=2, groups=["a"]),
            "groups: found 1, expected 3",
        ),
        (lambda: sampling.Pairs([1, 1, 2, 2], count=2, groups="abaa"), "groups: an identity is in two groups"),
        (lambda: sampling.Pairs([1, 1, 2, 2], count=2, groups="aabb"), "in every group, or across_groups=True"),
        (lambda: sampling.Pairs([1, 2, 3], count=2), "labels: no identity has 2 items"),
        (lambda: sampling.Pairs([1, 1, 2, 2], count=0), "count=0"),
        (lambda: sampling.Triplets([1, 2, 3], count=2), "no identity has two images"),
        (lambda: sampling.Triplets([], count=2), "labels: found none"),
    ],
)
def test_labels_that_give_no_batch_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
