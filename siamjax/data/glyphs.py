"""Handwriting without a file: alphabets, characters and drawers made from a key, drawn in graph.

An alphabet is a style (how curved, how many strokes, how they meet) and a few strokes that its characters share. A
character is up to five strokes, each a chain of arcs and lines, joined so that they keep clear of one another. A drawer
repeats it with wrong lengths and angles, a slant, a size, a wobble. It is the generative view of handwriting of Lake,
Salakhutdinov and Tenenbaum (2015), https://doi.org/10.1126/science.aab3050, with a prior set by hand in place of a
fitted one, so that networks trained on these alphabets can be tried on real ones: the bare numbers below were set so
that ink, size, shape and their spread over alphabets, characters and drawers come out much as in Omniglot's own.

Whole numbers name everything: a picture is a pure function of (key, alphabet, character, drawer), and what should be
disjoint (training, validation, test) takes disjoint alphabet numbers. Coordinates are x to the right and y down; angles
are radians, positive clockwise on the page.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from ml_collections import ConfigDict

from siamjax.data.dataset import Dataset, checked
from siamjax.data.types import Datasets, Source
from siamjax.streams import OfGlyph

STROKES = 5  # of a character at most; the last one is its mark: a dot, a bar, a ring
PIECES = 3  # arcs or lines in a stroke at most
STEPS = 30  # straight segments that stand for one stroke, a multiple of any number of pieces
SHARED = 4  # strokes that an alphabet's characters share; the last one serves as the mark
PIECE = 8  # uniforms that make a piece
JOIN = 8  # uniforms that say where a stroke meets those before it
CHUNK = 512  # drawings a call when a fixed data set is made

# As measured on Omniglot's background set: shares of the frame, and standard deviations of the logarithm of the side,
# a little wider here because the frame cuts the largest.
PEN = 5.0 / 105
SIDE = 67 / 105
SPREAD = {"alphabet": 0.15, "character": 0.13, "drawer": 0.08, "drawing": 0.12}

# What an alphabet has in common, each 0..1.
TRAITS = (
    "curved",  # arcs rather than lines
    "loops",  # arcs of more than half a turn
    "clockwise",  # the way arcs turn
    "diagonal",  # directions off the two axes
    "smooth",  # pieces run on without a corner
    "long",  # pieces in a stroke
    "many",  # strokes in a character
    "reuse",  # strokes taken from the shared ones
    "habit",  # those stand at their usual place
    "crossing",  # strokes meet in their middle
    "bridging",  # strokes run from one earlier stroke to another
    "apart",  # strokes stand beside rather than touch
    "marked",  # characters with a mark
    "dot",  # the mark is a dot
    "big",  # of the frame
    "wide",  # against high
)
HABITS = ("care", "slant", "rotation", "round", "aspect", "size", "right", "down", "pen")
# Ways for a stroke to meet others: signs sideways and upward, whether the axes change places, whether it is a bridge.
SIGNS = [[1, 1], [-1, 1], [1, -1], [-1, -1], [1, 1], [-1, -1], [1, 1], [-1, 1]]
FORMS = np.concatenate([SIGNS, np.repeat([[0, 0], [1, 0], [0, 1]], [4, 2, 2], axis=0)], 1).astype(np.float32)
EVERY = 5  # steps from one point to the next by which the place of a stroke among others is judged
CLEAR = 0.16  # the least mean distance of those points from earlier ink, in cells, of 0.25 at most
INK = 5.5  # cells that the path of a whole character runs through at most
WHOLE = 16  # normals of a drawing for each stroke as a whole

# The evaluators of a data set of alphabets.
EVALUATORS = ("verification", "within_group", "koch_400_trials", "validation_within_group", "between_groups")
# Alphabet numbers of the fixed data sets; training draws its alphabets from other keys.
_FIRST_ALPHABET = {"validation": 0, "test": 1_000_000, "train": 2_000_000}


@functools.partial(jax.jit, static_argnames="size")
def draw(key: Array, alphabet: Array, character: Array, drawer: Array, size: int) -> Array:
    """Draws one character of one alphabet by one hand.

    Args:
      key: PRNG key; another key is another world of alphabets.
      alphabet: int32 scalar, from 0; there is no last alphabet, nor character, nor drawer.
      character: int32 scalar, from 0.
      drawer: int32 scalar, from 0; slant, size, pen and care are a drawer's own throughout an alphabet.
      size: height and width in pixels, static, at least 8.

    Returns:
      uint8 [size, size, 1], ink 255 on paper 0, edges antialiased.
    """
    alphabet_key = jax.random.fold_in(key, alphabet)
    character_key = jax.random.fold_in(alphabet_key, character)
    traits, shared, places = _alphabet(jax.random.fold_in(alphabet_key, jnp.int32(OfGlyph.TRAITS)))
    strokes, joins, own_size = _character(
        jax.random.fold_in(character_key, jnp.int32(OfGlyph.TRAITS)), traits, shared, places
    )
    strokes, forms = _compose(strokes, joins, traits, jax.random.fold_in(character_key, jnp.int32(OfGlyph.FORMS)))
    habit = jax.random.truncated_normal(
        jax.random.fold_in(alphabet_key, OfGlyph.HABITS - drawer), -2.0, 2.0, (len(HABITS),)
    )
    habit = dict(zip(HABITS, habit, strict=True))
    noise = jax.random.fold_in(character_key, drawer)
    noise = jax.random.truncated_normal(noise, -2.0, 2.0, (STROKES, WHOLE + 3 * PIECES))
    points = _join(*_walk(strokes, habit, noise), joins, forms, traits, noise)
    points = _frame(points, traits, own_size, habit, noise)
    return _ink(points, PEN * (1 + 0.03 * habit["pen"]), size)


def dataset(key: Array, alphabets: int, characters: int, drawers: int, size: int, first_alphabet: int = 0) -> Dataset:
    """Draws a fixed data set: every character of every alphabet by every drawer.

    Args:
      key: PRNG key of the world; data sets of one key with disjoint alphabet numbers share no alphabet.
      alphabets: how many, numbered from `first_alphabet`.
      characters: how many in each alphabet.
      drawers: drawings of each character; drawer d is one source throughout, though with new habits in each alphabet.
      size: height and width in pixels.
      first_alphabet: number of the first alphabet.

    Returns:
      A checked Dataset of alphabets * characters * drawers images, groups named like "glyphs-0012".
    """
    group, character, source = np.indices((alphabets, characters, drawers), np.int32).reshape(3, -1)
    images = np.empty((len(group), size, size, 1), np.uint8)
    for start in range(0, len(group), CHUNK):
        # The last chunk repeats its last row, so that one shape is compiled.
        rows = np.minimum(np.arange(start, start + CHUNK), len(group) - 1)
        images[rows] = _draw_many(key, first_alphabet + group[rows], character[rows], source[rows], size)
    names = tuple(f"glyphs-{first_alphabet + number:04d}" for number in range(alphabets))
    return checked(Dataset(images, group * characters + character, group, source, names), "glyphs")


def fixed(config: ConfigDict, part: str, alphabets: int) -> Dataset:
    """The drawn alphabets of "train", "validation" or "test"; `config` is the `data` part of a configuration."""
    world = config.glyphs
    return dataset(
        jax.random.key(world.seed),
        alphabets=alphabets,
        characters=world.characters,
        drawers=world.drawers,
        size=config.size,
        first_alphabet=_FIRST_ALPHABET[part],
    )


def _load(config: ConfigDict, train: bool) -> Datasets:
    del train  # Images to train on are drawn in the training step.
    return {part: fixed(config, part, config.glyphs.test_alphabets) for part in ("validation", "test")}


SOURCE = Source(_load, title=lambda config: "glyphs", evaluators=lambda config: EVALUATORS)


@functools.partial(jax.jit, static_argnums=4)
def _draw_many(key, alphabet, character, drawer, size):
    """As `draw`, for numbers [n]: uint8 [n, size, size, 1]."""
    return jax.vmap(draw, in_axes=(None, 0, 0, 0, None))(key, alphabet, character, drawer, size)


def _alphabet(key):
    """Returns traits by name, the shared strokes [SHARED, PIECES, 4] and their usual joins [SHARED, JOIN]."""
    n = len(TRAITS)
    u = jax.random.uniform(key, (n + SHARED * (PIECES * PIECE + JOIN),))
    traits = dict(zip(TRAITS, u[:n], strict=True))
    # Stretched, so that alphabets all of lines, or all of arcs, or of single strokes are as common as mixed ones.
    for name, most in (("curved", 0.8), ("many", 0.95), ("long", 0.95)):
        traits[name] = jnp.clip(1.5 * traits[name] - 0.25, 0.0, most)
    u = u[n:].reshape(SHARED, PIECES * PIECE + JOIN)
    return traits, _strokes(u[:, JOIN:].reshape(SHARED, PIECES, PIECE), traits), u[:, :JOIN]


def _strokes(u, traits):
    """Turns uniforms [n, PIECES, PIECE] into strokes [n, PIECES, 4] in the style of an alphabet.

    The numbers of a piece: heading in its middle, turning from its start to its end, length of its path in the cells
    of an imagined grid (0: no such piece), and the lean of its curvature towards its end, -1..1.
    """
    quarter = jnp.pi / 2
    whole = u[:, :1]  # what a stroke's pieces share: they bend, turn and measure alike
    curved, roll = u[..., 2] < traits["curved"], whole[..., 1]
    ring = roll > 1 - 0.35 * traits["loops"]
    bend = jnp.where(ring, 4.0, jnp.where(roll < 0.3, 1.2, jnp.where(roll < 0.55 + 0.2 * traits["loops"], 2.0, 2.6)))
    arc = quarter * jnp.where(jnp.cumsum(curved, -1) > 1, jnp.minimum(bend, 2.0), bend)  # one loop in a stroke
    swing = jnp.where(whole[..., 0] < 0.2 + 0.6 * traits["clockwise"], 1.0, -1.0)
    sway = jnp.where(whole[..., 4] < 0.3, -1.0, 1.0) ** jnp.arange(PIECES)[None]
    # Corners of one stroke are alike too: all one way, as in a box, or by turns, as in a zigzag.
    sharp = (whole[..., 3] < 0.5 * traits["diagonal"]) | (whole[..., 4] < 0.3)
    corner = swing * sway * quarter * jnp.where(sharp, jnp.where(whole[..., 6] < 0.5, 1.35, 1.55), 1.0)
    turning = [jnp.where(curved, swing * arc, 0.2 * (u[..., 1] - 0.5))[:, 0]]
    axis = quarter * jnp.floor(4 * u[:, 0, 5]) + jnp.where(u[:, 0, 3] < 0.3 * traits["diagonal"], quarter / 2, 0.0)
    heading = [axis + 0.12 * (u[:, 0, 7] - 0.5)]
    for j in range(1, PIECES):
        both, either = curved[:, j - 1] & curved[:, j], curved[:, j - 1] | curved[:, j]
        smooth = (u[:, j, 5] < 0.25 + 0.7 * traits["smooth"]) & either
        # Wide arcs that run on into each other take turns, as in S; otherwise they would go round again.
        same = jnp.where(both, jnp.sign(turning[-1]), swing[:, 0]) * jnp.where(smooth & both & (arc[:, 0] > 3), -1, 1)
        turning.append(jnp.where(curved[:, j], same * arc[:, j], 0.2 * (u[:, j, 1] - 0.5)))
        # Without running on, an arc repeats the one before, as in 3, and closes, or starts from, a line, as in D.
        broken = jnp.where(both, 0.0, jnp.where(either, 2 * quarter, corner[:, j]))
        heading.append(heading[-1] + jnp.where(smooth, (turning[-2] + turning[-1]) / 2, broken))
    turning = jnp.stack(turning, -1)
    # A piece spans so many cells from end to end, or across if it turns by more than half a circle.
    bend = jnp.clip(jnp.abs(turning), 1e-3, None)
    span = jnp.where(whole[..., 6] < 0.35, 0.6, jnp.where(ring & curved, 0.75, 1.0))
    span = span * jnp.where((u[..., 6] < 0.3) & (jnp.arange(PIECES)[None] > 0), 0.55, 1.0)
    length = span * bend / (2 * jnp.sin(jnp.minimum(bend, jnp.pi) / 2))
    follows = u[..., 7] < (0.2 + 0.65 * traits["long"]) * jnp.array([[jnp.inf, 1.0, 0.7]])
    lean = jnp.where(bend > 3 * quarter, 0.0, 1.4 * u[..., 6] - 0.7)
    return jnp.stack([jnp.stack(heading, -1), turning, length * jnp.cumprod(follows, -1), lean], -1)


def _character(key, traits, shared, places):
    """Returns strokes [STROKES, PIECES, 4] (length 0: none), joins [STROKES, JOIN] and a size, 0..1."""
    u = jax.random.uniform(key, (STROKES, PIECES * PIECE + JOIN + 5))
    joins, choice, u = u[:, :JOIN], u[:, JOIN : JOIN + 5], u[:, JOIN + 5 :].reshape(STROKES, PIECES, PIECE)
    order = jnp.arange(STROKES)
    mark = order == STROKES - 1
    # Plain strokes come in greater numbers: characters are about equally complex everywhere.
    more = 0.44 + 0.4 * traits["many"] + 0.5 * (1 - traits["long"]) * (1 - 0.5 * traits["curved"])
    there = jnp.cumprod(choice[:, 0] < jnp.where(order == 0, 1.0, more + jnp.where(order == 1, 0.2, -0.15)))
    there = jnp.where(mark, choice[:, 0] < 0.8 * traits["marked"] - 0.25, there)
    # The first stroke is always the character's own: by it no two are alike.
    taken = (choice[:, 1] < 0.2 + 0.7 * traits["reuse"]) & (order > 0) | mark
    which = jnp.where(mark, SHARED - 1, jnp.floor((SHARED - 1) * choice[:, 2])).astype(jnp.int32)
    # A lone stroke of a single piece would be one of very few shapes.
    u = u.at[0, 1:, 7].multiply(jnp.where(jnp.sum(there[:-1]) == 1, 0.15, 1.0))
    strokes = _strokes(u, traits)
    strokes = jnp.where(taken[:, None, None], shared[which], strokes)
    usual = taken & ~mark & (choice[:, 3] < traits["habit"])
    joins = jnp.where(usual[:, None], places[which], joins)
    scale = there * jnp.where(mark, jnp.where(traits["dot"] < 0.6, 0.02, 0.3), 1.0)
    return strokes.at[..., 2].multiply(scale[:, None]), joins, choice[0, 4]


def _walk(strokes, habit, noise):
    """Walks the strokes as one hand does: points [STROKES, STEPS + 1, 2] from 0, and which are there."""
    heading, turning, length, lean = jnp.moveaxis(strokes, -1, 0)
    care = jnp.exp(0.4 * habit["care"])
    error = care * jnp.moveaxis(noise[:, WHOLE:].reshape(STROKES, PIECES, 3), -1, 0)
    heading = heading + 0.10 * error[0] + 0.045 * noise[:, :1]
    turning = turning * (1 + 0.10 * error[1] + 0.06 * habit["round"]) + 0.2 * error[1]
    length = length * jnp.exp(0.16 * error[2] + 0.1 * noise[:, 1:2])
    # All steps go to the pieces that there are.
    pieces = jnp.sum(length > 0, -1, keepdims=True)
    t = jnp.arange(STEPS + 1)[None] / STEPS * pieces
    middle = (t[:, 1:] + t[:, :-1]) / 2
    pick = jnp.floor(middle)[..., None] == jnp.arange(PIECES)[None, None]
    piece = jnp.stack([heading, turning, length * pieces / STEPS, lean])
    heading, turning, length, lean = jnp.sum(jnp.where(pick[None], piece[:, :, None], 0.0), -1)
    # Quadratic in the path, so that a leaning curvature ends tighter than it began.
    at = middle - jnp.floor(middle)
    heading = heading + turning * (at - 0.5 + 0.4 * lean * at * (at - 1))
    step = length[..., None] * jnp.stack([jnp.cos(heading), jnp.sin(heading)], -1)
    around = jnp.pad(step, ((0, 0), (1, 1), (0, 0)), mode="edge")
    rounding = jnp.clip(0.3 + 0.5 * habit["round"], 0.0, 1.0)
    points = jnp.cumsum(step + rounding * ((around[:, :-2] + step + around[:, 2:]) / 3 - step), 1)
    points = jnp.pad(points, ((0, 0), (1, 0), (0, 0)))
    wave = jnp.sin((2.5 + noise[:, None, 0:2]) * t[..., None] + 3 * noise[:, None, 2:4])
    wave = wave * noise[:, None, 4:6] + 0.25 * jnp.sin(9 * t[..., None] + 3 * noise[:, None, 6:8])
    size = jnp.minimum(1.0, jnp.sum(length, -1))[:, None, None]
    points = points + 0.03 * care * size * wave
    return points - points[:, :1], pieces[:, 0] > 0


def _compose(strokes, joins, traits, key):
    """Chooses how each stroke meets those before it: strokes less those with no good place, and forms [STROKES, 4]."""
    # Clear of their ink, yet not far out, as they are meant: before any hand draws, so that all hands draw one form.
    noise = jnp.zeros((STROKES, WHOLE + 3 * PIECES))
    walks, there = _walk(strokes, dict.fromkeys(HABITS, 0.0), noise)
    walks, lengths = walks[:, ::EVERY], jnp.sum(strokes[..., 2], -1)
    luck = jax.random.uniform(key, (STROKES, len(FORMS)))

    def choose(carry, s):
        placed, ink = carry
        forms = jnp.asarray(FORMS)
        new = jax.vmap(lambda form: _meet(placed, s, form, walks, joins, traits, noise))(forms)
        old = placed.reshape(-1, 2)
        square = jnp.square(new[..., :1] - old[None, None, :, 0]) + jnp.square(new[..., 1:] - old[None, None, :, 1])
        clear = jnp.sqrt(jnp.minimum(square.min(-1), 0.25**2)).mean(-1)
        extent = jnp.maximum(new.max(1), old.max(0)[None]) - jnp.minimum(new.min(1), old.min(0)[None])
        out = jnp.maximum(extent - 1.1, 0.0).sum(-1)
        bridging = (joins[s, 5] < 0.7 * traits["bridging"]) & (s < STROKES - 1)
        score = clear - 0.1 * out + forms[:, 3] * jnp.where(bridging, 0.1, -9.0) + 0.06 * luck[s]
        score = jnp.where((clear > CLEAR) & (out < 0.8), score, -9.0)
        best = jnp.argmax(score)
        good = there[s] & (score[best] > -1) & (ink + lengths[s] < INK)
        placed = placed.at[s].set(jnp.where(good, new[best], placed[s]))
        return (placed, ink + good * lengths[s]), (good, forms[best])

    start = jnp.broadcast_to(walks[:1], walks.shape), lengths[0]
    good, forms = jax.lax.scan(choose, start, jnp.arange(1, STROKES))[1]
    return strokes.at[1:, :, 2].multiply(good[:, None]), jnp.concatenate([FORMS[:1], forms])


def _join(walks, there, joins, forms, traits, noise):
    """Puts each stroke where it meets those before it: points as `walks`, [STROKES, p, 2]."""

    def place(s, placed):
        return placed.at[s].set(jnp.where(there[s], _meet(placed, s, forms[s], walks, joins, traits, noise), placed[s]))

    # A stroke that is not there, or not yet, hides behind the first.
    return jax.lax.fori_loop(1, STROKES, place, jnp.broadcast_to(walks[:1], walks.shape))


def _meet(placed, s, form, walks, joins, traits, noise):
    """Points [p, 2] of stroke `s`, in one of FORMS, among the strokes `placed` before it."""
    crossing, u, slip, last = traits["crossing"], joins[s], noise[s, 10:13], walks.shape[1] - 1
    # Two points of earlier strokes; the stroke meets the first, or bridges both. The first stroke is the stem.
    first, second = jnp.floor(s * u[:2] ** 1.5).astype(jnp.int32)
    target = placed[first, _spot(u[2], crossing, last, slip[0])]
    other = placed[second, _spot(u[3], crossing, last, slip[1])]
    beside = jnp.where(u[5] > 1 - 0.8 * traits["apart"] ** 2, 0.5 * jnp.floor(3 * u[6:8]) - 0.5, 0.0)
    # The stroke's own meeting point is picked before it takes its form, so that trying many forms gathers but once.
    own = walks[s] + (beside - walks[s, _spot(u[4], crossing, last, slip[2])])[None]
    walk, meeting = (jnp.where(form[2] > 0, xy[:, ::-1], xy) * form[None, :2] for xy in (walks[s], own))
    chord, gap = walk[-1], other - target
    # Turned and stretched, the stroke reaches from one point to the other; the less so the nearer its own ends or
    # the two points are, so that no hand's error decides between two forms.
    reach = jnp.clip(10 * jnp.minimum(jnp.sum(chord**2), jnp.sum(gap**2)) - 0.2, 0, 1) / (jnp.sum(chord**2) + 1e-6)
    cosine = 1 + reach * jnp.sum(chord * (gap - chord))
    sine = reach * (chord[0] * gap[1] - chord[1] * gap[0])
    bridge = walk * cosine + walk[:, ::-1] * sine * jnp.array([[-1.0, 1.0]])
    bridge = bridge / jnp.maximum(1.0, jnp.sqrt(cosine**2 + sine**2) / 2)
    # The mark stands about the middle of all others: over, under, inside, beside.
    low, high = placed.min((0, 1)), placed.max((0, 1))
    spot = (low + high) / 2 + form[:2] * (jnp.floor(3 * u[:2]) - 1) * ((high - low) / 2 + jnp.array([0.0, 0.3]))
    start = jnp.where(s == STROKES - 1, spot, target) + 0.05 * noise[s, 8:10]
    return jnp.where(form[3] > 0, bridge, meeting) + start[None]


def _spot(u, crossing, last, slip):
    """Start, end or middle of a stroke of `last` steps, as an index; a hand may slip along the stroke."""
    place = jnp.where(u < 0.4 * crossing, 0.5, jnp.where(u < 0.5 + 0.2 * crossing, 0.0, 1.0))
    return jnp.round(jnp.clip(place + 0.05 * slip, 0, 1) * last).astype(jnp.int32)


def _frame(points, traits, own_size, habit, noise):
    """Slants, scales and shifts points [s, p, 2] into the unit frame."""
    x, y = points[..., 0], points[..., 1]
    slant = 0.10 * habit["slant"] + 0.06 * noise[0, 10]
    tilt = 0.04 * habit["rotation"] + 0.04 * noise[0, 11]
    points = jnp.stack([x - (slant + tilt) * y, y + tilt * x], -1)
    shape = traits["wide"] - 0.58 + 0.07 * habit["aspect"] + 0.1 * noise[0, 12]
    extent = jnp.ptp(points, (0, 1)) + 0.3
    # Characters of one alphabet fill boxes more alike than their strokes alone would.
    shape = shape - 0.5 * jnp.log(extent[0] / extent[1])
    points = points * jnp.exp(jnp.stack([0.5 * shape, -0.5 * shape]))[None, None]
    low, high = points.min((0, 1)), points.max((0, 1))
    flat = 12**0.5  # a uniform number times this has unit deviation
    size = SPREAD["alphabet"] * flat * (traits["big"] - 0.5) + SPREAD["character"] * flat * (own_size - 0.5)
    size = size + SPREAD["drawer"] * habit["size"] + SPREAD["drawing"] * noise[0, 13]
    side = jnp.minimum(SIDE * jnp.exp(size), 0.92) - PEN
    scale = side / jnp.max(high - low)
    shift = jnp.stack([habit["right"], habit["down"]]) * 0.03 + 0.05 * noise[0, 14:16]
    room = jnp.maximum(0.48 - PEN / 2 - scale * (high - low) / 2, 0.0)
    shift = jnp.clip(shift, -room, room) + 0.5 - scale * (low + high) / 2
    return points * scale + shift[None, None]


def _ink(points, width, size):
    """Renders polylines [s, p, 2] in the unit frame with a pen of `width`: uint8 [size, size, 1]."""
    start = points[:, :-1] * size
    # The thousandth of a pixel gives a point, such as a dot or the rest of a short stroke, a direction too.
    step = points[:, 1:] * size - start + jnp.array([[[1e-3, 0.0]]])
    length = jnp.sqrt(jnp.sum(step**2, -1, keepdims=True))
    segments = jnp.concatenate([start + step / 2, step / length, length / 2], -1)
    x = jnp.arange(size)[None, :] + 0.5
    y = jnp.arange(size)[:, None] + 0.5

    def nearer(square, stroke):
        # Unrolled, one stroke at a time: XLA then keeps a pixel's running minimum in a register, which is some ten
        # times faster on a CPU than a reduction over an axis of segments.
        for mx, my, cosine, sine, half in stroke:
            along = jnp.maximum(jnp.abs((x - mx) * cosine + (y - my) * sine) - half, 0)
            across = (y - my) * cosine - (x - mx) * sine
            square = jnp.minimum(square, along * along + across * across)
        return square, None

    square, _ = jax.lax.scan(nearer, jnp.full((size, size), 1e8), segments)
    radius = width * size / 2
    # The share of a pixel that a straight line of this width covers; a thin one never fills it.
    share = jnp.clip(jnp.minimum(radius + 0.5 - jnp.sqrt(square), 2 * radius), 0, 1)
    return jnp.round(255 * share).astype(jnp.uint8)[..., None]
