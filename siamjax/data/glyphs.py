"""Generated handwriting: alphabets, characters and drawers that follow from a key, drawn in graph.

An alphabet is a style (how curved, how many strokes, how they meet) and a few strokes that its characters share. A
character is up to five strokes, each a chain of arcs and lines, joined so that they keep clear of one another. A drawer
repeats it with errors in length and angle, a slant, a size, a wobble. This is the generative model of handwriting of
Lake, Salakhutdinov and Tenenbaum (2015), https://doi.org/10.1126/science.aab3050, with a prior set by hand in place of
a fitted one, so that networks trained on these alphabets can be evaluated on real ones: the constants below were chosen
so that ink, size, shape and their spread over alphabets, characters and drawers are similar to Omniglot's.

A drawing is a pure function of (key, alphabet, character, drawer), all of them integers but the key; disjoint data sets
(training, validation, test) have disjoint alphabet numbers. Coordinates are x to the right and y down; angles
are radians, positive clockwise on the page.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from ml_collections import ConfigDict

from siamjax import draws
from siamjax.data.dataset import Dataset, checked
from siamjax.data.types import Datasets, Source
from siamjax.streams import OfGlyph

STROKES = 5  # per character at most; the last one is its mark: a dot, a bar, a ring
PIECES = 3  # arcs or lines per stroke at most
STEPS = 30  # straight segments that approximate a stroke, a multiple of any number of pieces
SHARED = 4  # strokes shared by the characters of an alphabet; the last one is the mark
PIECE = 8  # uniform random numbers per piece
JOIN = 8  # uniform random numbers that place a stroke against those before it
CHUNK = 512  # drawings per call for a fixed data set

# Measured on Omniglot's background set: shares of the frame, and standard deviations of the logarithm of the side, a
# little larger here because the frame limits the largest.
PEN = 5.0 / 105
SIDE = 67 / 105
SPREAD = {"alphabet": 0.15, "character": 0.13, "drawer": 0.08, "drawing": 0.12}

# Style of an alphabet, each 0..1.
TRAITS = (
    "curved",  # arcs rather than lines
    "loops",  # arcs of more than half a turn
    "clockwise",  # sense in which arcs turn
    "diagonal",  # directions off the two axes
    "smooth",  # pieces continue without a corner
    "long",  # pieces per stroke
    "many",  # strokes per character
    "reuse",  # strokes taken from the shared ones
    "habit",  # shared strokes are at their usual place
    "crossing",  # strokes meet in their middle
    "bridging",  # strokes run from one earlier stroke to another
    "apart",  # strokes are near one another rather than touch
    "marked",  # characters with a mark
    "dot",  # the mark is a dot
    "big",  # of the frame
    "wide",  # rather than high
)
HABITS = ("care", "slant", "rotation", "round", "aspect", "size", "right", "down", "pen")
# Ways for a stroke to meet others: signs sideways and upward, whether the axes are swapped, whether it is a bridge.
SIGNS = [[1, 1], [-1, 1], [1, -1], [-1, -1], [1, 1], [-1, -1], [1, 1], [-1, 1]]
FORMS = np.concatenate([SIGNS, np.repeat([[0, 0], [1, 0], [0, 1]], [4, 2, 2], axis=0)], 1).astype(np.float32)
EVERY = 5  # steps between the points at which the place of a stroke among others is scored
CLEAR = 0.16  # minimum of the mean distance of those points, cut at 0.25, from earlier ink, in cells
INK = 5.5  # maximum length of the path of a whole character, in cells
WHOLE = 16  # normal random numbers of a drawing for each stroke as a whole

_WITHIN_TWO = functools.partial(jax.random.truncated_normal, lower=-2.0, upper=2.0)

# The evaluators of a data set of alphabets.
EVALUATORS = ("verification", "within_group", "koch_400_trials", "validation_within_group", "between_groups")
# Alphabet numbers of the fixed data sets; training draws its alphabets from other keys.
_FIRST_ALPHABET = {"validation": 0, "test": 1_000_000, "train": 2_000_000}


@functools.partial(jax.jit, static_argnames="size")
def draw(key: Array, alphabet: Array, character: Array, drawer: Array, size: int) -> Array:
    """Draws one character of one alphabet by one drawer.

    Args:
      key: PRNG key; another key gives other alphabets.
      alphabet: int32 scalar, from 0; there is no upper limit to alphabets, characters and drawers.
      character: int32 scalar, from 0.
      drawer: int32 scalar, from 0; slant, size, pen and care of a drawer are the same throughout an alphabet.
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
    habit = draws.numbers(_WITHIN_TWO, jax.random.fold_in(alphabet_key, OfGlyph.HABITS - drawer), (len(HABITS),))
    habit = dict(zip(HABITS, habit, strict=True))
    noise = jax.random.fold_in(character_key, drawer)
    noise = draws.numbers(_WITHIN_TWO, noise, (STROKES, WHOLE + 3 * PIECES))
    points = _join(*_walk(strokes, habit, noise), joins, forms, traits, noise)
    points = _frame(points, traits, own_size, habit, noise)
    return _ink(points, PEN * (1 + 0.03 * habit["pen"]), size)


def dataset(key: Array, alphabets: int, characters: int, drawers: int, size: int, first_alphabet: int = 0) -> Dataset:
    """Draws a fixed data set: every character of every alphabet by every drawer.

    Args:
      key: PRNG key; data sets with the same key and disjoint alphabet numbers share no alphabet.
      alphabets: number of alphabets, counted from `first_alphabet`.
      characters: number of characters per alphabet.
      drawers: number of drawings per character; drawer d is the same source in all alphabets, with new habits in each.
      size: height and width in pixels.
      first_alphabet: number of the first alphabet.

    Returns:
      A checked Dataset of alphabets * characters * drawers images, groups named like "glyphs-0012".
    """
    group, character, source = np.indices((alphabets, characters, drawers), np.int32).reshape(3, -1)
    images = np.empty((len(group), size, size, 1), np.uint8)
    for start in range(0, len(group), CHUNK):
        # The last chunk repeats its last row, so that only one shape is compiled.
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


SOURCE = Source(_load, title=lambda config: "glyphs", evaluators=lambda config: EVALUATORS, square=True)


@functools.partial(jax.jit, static_argnums=4)
def _draw_many(key, alphabet, character, drawer, size):
    """`draw` for numbers int32 [n]: uint8 [n, size, size, 1]."""
    return jax.vmap(draw, in_axes=(None, 0, 0, 0, None))(key, alphabet, character, drawer, size)


def _alphabet(key):
    """Returns traits by name, the shared strokes [SHARED, PIECES, 4] and their usual joins [SHARED, JOIN]."""
    n = len(TRAITS)
    u = draws.numbers(jax.random.uniform, key, (n + SHARED * (PIECES * PIECE + JOIN),))
    traits: dict[str, Array] = dict(zip(TRAITS, u[:n], strict=True))
    # Stretched, so that alphabets of lines only, of arcs only, or of single strokes are as common as mixed ones.
    for name, most in (("curved", 0.8), ("many", 0.95), ("long", 0.95)):
        traits[name] = jnp.clip(1.5 * traits[name] - 0.25, 0.0, most)
    u = u[n:].reshape(SHARED, PIECES * PIECE + JOIN)
    return traits, _strokes(u[:, JOIN:].reshape(SHARED, PIECES, PIECE), traits), u[:, :JOIN]


def _strokes(u, traits):
    """Turns uniform random numbers [n, PIECES, PIECE] into strokes [n, PIECES, 4] in the style of an alphabet.

    The numbers of a piece: heading in its middle, turning from its start to its end, length of its path in the cells
    of an imaginary grid (0: no such piece), and the lean of its curvature towards its end, -1..1.
    """
    quarter = jnp.pi / 2
    whole = u[:, :1]  # shared by the pieces of a stroke: they bend, turn and measure alike
    curved, roll = u[..., 2] < traits["curved"], whole[..., 1]
    ring = roll > 1 - 0.35 * traits["loops"]
    bend = jnp.where(ring, 4.0, jnp.where(roll < 0.3, 1.2, jnp.where(roll < 0.55 + 0.2 * traits["loops"], 2.0, 2.6)))
    arc = quarter * jnp.where(jnp.cumsum(curved, -1) > 1, jnp.minimum(bend, 2.0), bend)  # one loop per stroke
    swing = jnp.where(whole[..., 0] < 0.2 + 0.6 * traits["clockwise"], 1.0, -1.0)
    sway = jnp.where(whole[..., 4] < 0.3, -1.0, 1.0) ** jnp.arange(PIECES)[None]
    # Corners of a stroke are alike, too: all in one direction, as in a box, or alternating, as in a zigzag.
    sharp = (whole[..., 3] < 0.5 * traits["diagonal"]) | (whole[..., 4] < 0.3)
    corner = swing * sway * quarter * jnp.where(sharp, jnp.where(whole[..., 6] < 0.5, 1.35, 1.55), 1.0)
    turning = [jnp.where(curved, swing * arc, 0.2 * (u[..., 1] - 0.5))[:, 0]]
    axis = quarter * jnp.floor(4 * u[:, 0, 5]) + jnp.where(u[:, 0, 3] < 0.3 * traits["diagonal"], quarter / 2, 0.0)
    heading = [axis + 0.12 * (u[:, 0, 7] - 0.5)]
    for j in range(1, PIECES):
        both, either = curved[:, j - 1] & curved[:, j], curved[:, j - 1] | curved[:, j]
        smooth = (u[:, j, 5] < 0.25 + 0.7 * traits["smooth"]) & either
        # Wide arcs that continue into each other alternate, as in S; otherwise they would close a circle.
        same = jnp.where(both, jnp.sign(turning[-1]), swing[:, 0]) * jnp.where(smooth & both & (arc[:, 0] > 3), -1, 1)
        turning.append(jnp.where(curved[:, j], same * arc[:, j], 0.2 * (u[:, j, 1] - 0.5)))
        # With a corner, an arc repeats the previous one, as in 3, or closes a line, as in D.
        broken = jnp.where(both, 0.0, jnp.where(either, 2 * quarter, corner[:, j]))
        heading.append(heading[-1] + jnp.where(smooth, (turning[-2] + turning[-1]) / 2, broken))
    turning = jnp.stack(turning, -1)
    # The span of a piece in cells, from end to end, or its diameter if it turns by more than half a circle.
    bend = jnp.clip(jnp.abs(turning), 1e-3, None)
    span = jnp.where(whole[..., 6] < 0.35, 0.6, jnp.where(ring & curved, 0.75, 1.0))
    span = span * jnp.where((u[..., 6] < 0.3) & (jnp.arange(PIECES)[None] > 0), 0.55, 1.0)
    length = span * bend / (2 * jnp.sin(jnp.minimum(bend, jnp.pi) / 2))
    follows = u[..., 7] < (0.2 + 0.65 * traits["long"]) * jnp.array([[jnp.inf, 1.0, 0.7]])
    lean = jnp.where(bend > 3 * quarter, 0.0, 1.4 * u[..., 6] - 0.7)
    return jnp.stack([jnp.stack(heading, -1), turning, length * jnp.cumprod(follows, -1), lean], -1)


def _character(key, traits, shared, places):
    """Returns strokes [STROKES, PIECES, 4] (length 0: none), joins [STROKES, JOIN] and a size, 0..1."""
    u = draws.numbers(jax.random.uniform, key, (STROKES, PIECES * PIECE + JOIN + 5))
    joins, choice, u = u[:, :JOIN], u[:, JOIN : JOIN + 5], u[:, JOIN + 5 :].reshape(STROKES, PIECES, PIECE)
    order = jnp.arange(STROKES)
    mark = order == STROKES - 1
    # Simple strokes are more numerous, so that characters of all alphabets are about equally complex.
    more = 0.44 + 0.4 * traits["many"] + 0.5 * (1 - traits["long"]) * (1 - 0.5 * traits["curved"])
    there = jnp.cumprod(choice[:, 0] < jnp.where(order == 0, 1.0, more + jnp.where(order == 1, 0.2, -0.15)))
    there = jnp.where(mark, choice[:, 0] < 0.8 * traits["marked"] - 0.25, there)
    # The first stroke is never shared, so that no two characters are equal.
    taken = (choice[:, 1] < 0.2 + 0.7 * traits["reuse"]) & (order > 0) | mark
    which = jnp.where(mark, SHARED - 1, jnp.floor((SHARED - 1) * choice[:, 2])).astype(jnp.int32)
    # A single stroke of a single piece would have one of very few shapes.
    u = u.at[0, 1:, 7].multiply(jnp.where(jnp.sum(there[:-1]) == 1, 0.15, 1.0))
    strokes = _strokes(u, traits)
    strokes = jnp.where(taken[:, None, None], shared[which], strokes)
    usual = taken & ~mark & (choice[:, 3] < traits["habit"])
    joins = jnp.where(usual[:, None], places[which], joins)
    scale = there * jnp.where(mark, jnp.where(traits["dot"] < 0.6, 0.02, 0.3), 1.0)
    return strokes.at[..., 2].multiply(scale[:, None]), joins, choice[0, 4]


def _walk(strokes, habit, noise):
    """The strokes as drawn by one drawer: points [STROKES, STEPS + 1, 2] from 0, and which strokes exist."""
    heading, turning, length, lean = jnp.moveaxis(strokes, -1, 0)
    care = jnp.exp(0.4 * habit["care"])
    error = care * jnp.moveaxis(noise[:, WHOLE:].reshape(STROKES, PIECES, 3), -1, 0)
    heading = heading + 0.10 * error[0] + 0.045 * noise[:, :1]
    turning = turning * (1 + 0.10 * error[1] + 0.06 * habit["round"]) + 0.2 * error[1]
    length = length * jnp.exp(0.16 * error[2] + 0.1 * noise[:, 1:2])
    # All steps are divided among the existing pieces.
    pieces = jnp.sum(length > 0, -1, keepdims=True)
    t = jnp.arange(STEPS + 1)[None] / STEPS * pieces
    middle = (t[:, 1:] + t[:, :-1]) / 2
    pick = jnp.floor(middle)[..., None] == jnp.arange(PIECES)[None, None]
    piece = jnp.stack([heading, turning, length * pieces / STEPS, lean])
    heading, turning, length, lean = jnp.sum(jnp.where(pick[None], piece[:, :, None], 0.0), -1)
    # Quadratic in the path, so that the curvature increases along it.
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
    """Chooses how each stroke meets those before it: strokes without those that do not fit, and forms [STROKES, 4]."""
    # Clear of earlier ink, yet not far away; chosen on strokes without errors, so that all drawers draw the same form.
    noise = jnp.zeros((STROKES, WHOLE + 3 * PIECES))
    walks, there = _walk(strokes, dict.fromkeys(HABITS, 0.0), noise)
    walks, lengths = walks[:, ::EVERY], jnp.sum(strokes[..., 2], -1)
    luck = draws.numbers(jax.random.uniform, key, (STROKES, len(FORMS)))

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
    """Moves each stroke to where it meets those before it: points like `walks`, [STROKES, p, 2]."""

    def place(s, placed):
        return placed.at[s].set(jnp.where(there[s], _meet(placed, s, forms[s], walks, joins, traits, noise), placed[s]))

    # A stroke that does not exist, or is not placed yet, coincides with the first.
    return jax.lax.fori_loop(1, STROKES, place, jnp.broadcast_to(walks[:1], walks.shape))


def _meet(placed, s, form, walks, joins, traits, noise):
    """Points [p, 2] of stroke `s`, in a form of FORMS, among the strokes `placed` before it."""
    crossing, u, slip, last = traits["crossing"], joins[s], noise[s, 10:13], walks.shape[1] - 1
    # Two points of earlier strokes; the stroke meets the first, or bridges both. The first stroke is the most likely.
    first, second = jnp.floor(s * u[:2] ** 1.5).astype(jnp.int32)
    target = placed[first, _spot(u[2], crossing, last, slip[0])]
    other = placed[second, _spot(u[3], crossing, last, slip[1])]
    beside = jnp.where(u[5] > 1 - 0.8 * traits["apart"] ** 2, 0.5 * jnp.floor(3 * u[6:8]) - 0.5, 0.0)
    # The stroke's own meeting point is chosen before its form, so that trying many forms needs a single gather.
    own = walks[s] + (beside - walks[s, _spot(u[4], crossing, last, slip[2])])[None]
    walk, meeting = (jnp.where(form[2] > 0, xy[:, ::-1], xy) * form[None, :2] for xy in (walks[s], own))
    chord, gap = walk[-1], other - target
    # Rotated and scaled, the stroke reaches from one point to the other; less so the nearer its own ends or the two
    # points are, so that the error of a drawer cannot decide between two forms.
    reach = jnp.clip(10 * jnp.minimum(jnp.sum(chord**2), jnp.sum(gap**2)) - 0.2, 0, 1) / (jnp.sum(chord**2) + 1e-6)
    cosine = 1 + reach * jnp.sum(chord * (gap - chord))
    sine = reach * (chord[0] * gap[1] - chord[1] * gap[0])
    bridge = walk * cosine + walk[:, ::-1] * sine * jnp.array([[-1.0, 1.0]])
    bridge = bridge / jnp.maximum(1.0, jnp.sqrt(cosine**2 + sine**2) / 2)
    # The mark is near the middle of all others: above, below, inside or to the side.
    low, high = placed.min((0, 1)), placed.max((0, 1))
    spot = (low + high) / 2 + form[:2] * (jnp.floor(3 * u[:2]) - 1) * ((high - low) / 2 + jnp.array([0.0, 0.3]))
    start = jnp.where(s == STROKES - 1, spot, target) + 0.05 * noise[s, 8:10]
    return jnp.where(form[3] > 0, bridge, meeting) + start[None]


def _spot(u, crossing, last, slip):
    """Start, end or middle of a stroke of `last` steps, as an index; a drawer may slip along the stroke."""
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
    # Characters of one alphabet have more similar aspect ratios than their strokes alone would give.
    shape = shape - 0.5 * jnp.log(extent[0] / extent[1])
    points = points * jnp.exp(jnp.stack([0.5 * shape, -0.5 * shape]))[None, None]
    low, high = points.min((0, 1)), points.max((0, 1))
    flat = 12**0.5  # a uniform random number times this has unit deviation
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
    # A thousandth of a pixel gives a direction to points such as a dot or the rest of a short stroke.
    step = points[:, 1:] * size - start + jnp.array([[[1e-3, 0.0]]])
    length = jnp.sqrt(jnp.sum(step**2, -1, keepdims=True))
    segments = jnp.concatenate([start + step / 2, step / length, length / 2], -1)
    x = jnp.arange(size)[None, :] + 0.5
    y = jnp.arange(size)[:, None] + 0.5

    def nearer(square, stroke):
        # Unrolled, one stroke at a time: XLA then keeps a pixel's running minimum in a register, which is about ten
        # times faster on CPU than a reduction over an axis of segments.
        for mx, my, cosine, sine, half in stroke:
            along = jnp.maximum(jnp.abs((x - mx) * cosine + (y - my) * sine) - half, 0)
            across = (y - my) * cosine - (x - mx) * sine
            square = jnp.minimum(square, along * along + across * across)
        return square, None

    square, _ = jax.lax.scan(nearer, jnp.full((size, size), 1e8), segments)
    radius = width * size / 2
    # The share of a pixel covered by a straight line of this width; a thin line never fills it.
    share = jnp.clip(jnp.minimum(radius + 0.5 - jnp.sqrt(square), 2 * radius), 0, 1)
    return jnp.round(255 * share).astype(jnp.uint8)[..., None]
