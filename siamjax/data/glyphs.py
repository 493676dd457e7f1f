"""Handwriting without a file: alphabets, characters and drawers made from a key, drawn in graph.

An alphabet is a style (how curved, how many strokes, how they meet) and a few strokes that its characters share. A
character is up to five strokes, each a chain of arcs and lines, joined to one another. A drawer repeats it with wrong
lengths and angles, a slant, a size, a wobble. It is the generative view of handwriting of Lake, Salakhutdinov and
Tenenbaum (2015), https://doi.org/10.1126/science.aab3050, with a prior set by hand in place of a fitted one, so that
networks trained on these alphabets can be tried on real ones.

Whole numbers name everything: a picture is a pure function of (key, alphabet, character, drawer), any int32 will do, and
what should be disjoint (training, validation, test) takes disjoint alphabet numbers. Coordinates are x to the right and
y down; angles are radians, positive clockwise on the page.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from siamjax.data.dataset import Dataset, checked

STROKES = 5  # of a character at most; the last one is its mark: a dot, a bar, a ring
PIECES = 3  # arcs or lines in a stroke at most
STEPS = 10  # straight segments that stand for one piece
SHARED = 4  # strokes that an alphabet's characters share; the last one serves as the mark
PIECE = 8  # uniforms that make a piece
JOIN = 8  # uniforms that say where a stroke meets those before it
CHUNK = 512  # drawings a call when a fixed data set is made

# As measured on Omniglot's background set: shares of the frame, and standard deviations of the logarithm of the side,
# a little wider because the frame cuts the largest.
PEN = 5.0 / 105
SIDE = 71 / 105
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
    "mirror",  # strokes that are the mirror image of the one before
    "crossing",  # strokes meet in their middle
    "bridging",  # strokes run from one earlier stroke to another
    "apart",  # strokes stand beside rather than touch
    "marked",  # characters with a mark
    "dot",  # the mark is a dot
    "big",  # of the frame
    "wide",  # against high
)
HABITS = ("care", "slant", "rotation", "round", "aspect", "size", "right", "down", "pen")
WAVE = 16  # normals of a drawing that bend and shift one stroke


def draw(key: Array, alphabet: Array, character: Array, drawer: Array, size: int) -> Array:
    """Draws one character of one alphabet by one hand.

    Args:
      key: PRNG key; another key is another world of alphabets.
      alphabet: int32 scalar, any value.
      character: int32 scalar, any value from 0: alphabets have no last character.
      drawer: int32 scalar, any value from 0; slant, size, pen and care are a drawer's own throughout an alphabet.
      size: height and width in pixels, static, at least 8.

    Returns:
      uint8 [size, size, 1], ink 255 on paper 0, edges antialiased.
    """
    alphabet_key = jax.random.fold_in(key, alphabet)
    character_key = jax.random.fold_in(alphabet_key, character)
    traits, shared, places = _alphabet(alphabet_key)
    strokes, joins, own_size = _character(character_key, traits, shared, places)
    # Numbers below zero keep the drawers' habits apart from the characters.
    habit = jax.random.truncated_normal(jax.random.fold_in(alphabet_key, -1 - drawer), -2.0, 2.0, (len(HABITS),))
    habit = dict(zip(HABITS, habit))
    noise = jax.random.fold_in(character_key, drawer)
    noise = jax.random.truncated_normal(noise, -2.0, 2.0, (STROKES, WAVE + 3 * PIECES))
    present = strokes[:, 0, 2] > 0
    points = _join(*_walk(strokes, habit, noise), joins, traits, noise)
    points = _frame(points, present, traits, own_size, habit, noise)
    return _ink(points, present, PEN * (1 + 0.03 * habit["pen"]), size)


def dataset(
    key: Array, alphabets: int, characters: int, drawers: int, size: int, first_alphabet: int = 0
) -> Dataset:
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


@functools.partial(jax.jit, static_argnums=4)
def _draw_many(key, alphabet, character, drawer, size):
    return jax.vmap(draw, in_axes=(None, 0, 0, 0, None))(key, alphabet, character, drawer, size)


def _alphabet(key):
    """Returns traits by name, the shared strokes [SHARED, PIECES, 4] and their usual joins [SHARED, JOIN]."""
    n = len(TRAITS)
    u = jax.random.uniform(key, (n + SHARED * (PIECES * PIECE + JOIN),))
    traits = dict(zip(TRAITS, u[:n]))
    # Stretched beyond 0 and 1, so that alphabets all of lines or all of arcs are as common as mixed ones.
    traits["curved"] = jnp.clip(1.5 * traits["curved"] - 0.2, 0.0, 0.95)
    u = u[n:].reshape(SHARED, PIECES * PIECE + JOIN)
    return traits, _strokes(u[:, JOIN:].reshape(SHARED, PIECES, PIECE), traits), u[:, :JOIN]


def _strokes(u, traits):
    """Turns uniforms [n, PIECES, PIECE] into strokes [n, PIECES, 4] in the style of an alphabet.

    The numbers of a piece: heading in its middle, turning from its start to its end, length of its path in the cells
    of an imagined grid (0: no such piece), and the lean of its curvature towards its end, -1..1.
    """
    quarter = jnp.pi / 2
    side = jnp.where(u[..., 0] < 0.2 + 0.6 * traits["clockwise"], 1.0, -1.0)
    bend = 1 + 0.5 * jnp.floor((2.5 + 4.5 * traits["loops"] ** 2) * u[..., 1] ** 1.6)
    turning = jnp.where(u[..., 2] < traits["curved"], side * bend * quarter, 0.3 * (u[..., 1] - 0.5))
    slight, sharp = u[..., 3] < 0.25 * traits["diagonal"], u[..., 3] > 1 - 0.25 * traits["diagonal"]
    corner = jnp.where(slight, 0.5, jnp.where(sharp, 1.5, 1.0)) * jnp.where(u[..., 4] < 0.5, quarter, -quarter)
    corner = corner + 0.2 * (u[..., 1] - 0.5)
    axis = quarter * jnp.floor(4 * u[:, 0, 5]) + jnp.where(u[:, 0, 3] < 0.4 * traits["diagonal"], quarter / 2, 0.0)
    heading = [axis + 0.2 * (u[:, 0, 6] - 0.5)]
    for j in range(1, PIECES):
        run_on = heading[-1] + (turning[:, j - 1] + turning[:, j]) / 2
        heading.append(jnp.where(u[:, j, 5] < traits["smooth"], run_on, heading[-1] + corner[:, j]))
    # A piece spans so many cells from end to end, or across if it turns by more than half a circle.
    bend = jnp.clip(jnp.abs(turning), 1e-3, None)
    span = 0.4 + 0.3 * jnp.floor(3 * u[..., 6])
    length = span * bend / (2 * jnp.sin(jnp.minimum(bend, jnp.pi) / 2))
    follows = u[..., 7] < jnp.where(jnp.arange(PIECES) == 0, 1.0, 0.3 + 0.65 * traits["long"])
    return jnp.stack([jnp.stack(heading, -1), turning, length * jnp.cumprod(follows, -1), 2 * u[..., 6] - 1], -1)


def _character(key, traits, shared, places):
    """Returns strokes [STROKES, PIECES, 4] (length 0: none), joins [STROKES, JOIN] and a size, 0..1."""
    u = jax.random.uniform(key, (STROKES, PIECES * PIECE + JOIN + 5))
    joins, choice, u = u[:, :JOIN], u[:, JOIN : JOIN + 5], u[:, JOIN + 5 :]
    order = jnp.arange(STROKES)
    mark = order == STROKES - 1
    # Characters of few pieces a stroke need more strokes to differ.
    more = 0.3 + 0.5 * traits["many"] + 0.3 * (1 - traits["long"])
    there = jnp.cumprod(choice[:, 0] < jnp.where(order == 0, 1.0, more))
    single = jnp.sum(there[:-1]) == 1
    there = jnp.where(mark, choice[:, 0] < 0.8 * traits["marked"] - 0.25, there)
    # One stroke is always the character's own: by it no two are alike.
    own = order == jnp.where(single, 0, 1)
    taken = (choice[:, 1] < 0.2 + 0.7 * traits["reuse"]) & ~own | mark
    which = jnp.where(mark, SHARED - 1, jnp.floor((SHARED - 1) * choice[:, 2])).astype(jnp.int32)
    u = u.reshape(STROKES, PIECES, PIECE)
    # A lone stroke of a single piece would be one of very few shapes.
    u = u.at[0, 1, 7].multiply(jnp.where(single, 0.3, 1.0))
    strokes = _strokes(u, traits)
    strokes = jnp.where(taken[:, None, None], shared[which], strokes)
    usual = taken & ~mark & (choice[:, 3] < traits["habit"])
    joins = jnp.where(usual[:, None], places[which], joins)
    mirrored = (choice[:, 4] < 0.5 * traits["mirror"]) & (order > 1) & ~mark
    image = jnp.roll(strokes, 1, 0) * jnp.array([-1.0, -1, 1, 1]) + jnp.array([jnp.pi, 0, 0, 0])
    strokes = jnp.where(mirrored[:, None, None], image, strokes)
    # The same place of both, of the stroke and of its image, meet.
    joins = joins.at[:, 0].set(jnp.where(mirrored, 0.999, joins[:, 0]))
    joins = joins.at[:, 2].set(jnp.where(mirrored, joins[:, 4], joins[:, 2]))
    scale = there * jnp.where(mark, jnp.where(traits["dot"] < 0.6, 0.02, 0.3), 1.0)
    return strokes.at[..., 2].multiply(scale[:, None]), joins, choice[0, 4]


def _walk(strokes, habit, noise):
    """Walks the strokes as one hand does: points [STROKES, PIECES * STEPS + 1, 2] from 0, and the last of each."""
    heading, turning, length, lean = jnp.moveaxis(strokes, -1, 0)
    care = jnp.exp(0.4 * habit["care"])
    error = care * jnp.moveaxis(noise[:, WAVE:].reshape(STROKES, PIECES, 3), -1, 0)
    heading = heading + 0.13 * error[0] + 0.06 * noise[:, :1]
    turning = turning * (1 + 0.10 * error[1] + 0.06 * habit["round"]) + 0.2 * error[1]
    length = length * jnp.exp(0.2 * error[2] + 0.1 * noise[:, 1:2])
    # Quadratic in the path, so that a leaning curvature ends tighter than it began.
    at = (jnp.arange(STEPS) + 0.5) / STEPS
    along = at - 0.5 + 0.4 * lean[..., None] * at * (at - 1)
    heading = heading[..., None] + turning[..., None] * along
    step = length[..., None, None] / STEPS * jnp.stack([jnp.cos(heading), jnp.sin(heading)], -1)
    step = step.reshape(STROKES, PIECES * STEPS, 2)
    around = jnp.pad(step, ((0, 0), (1, 1), (0, 0)), mode="edge")
    rounding = jnp.clip(0.3 + 0.5 * habit["round"], 0.0, 1.0)
    points = jnp.cumsum(step + rounding * ((around[:, :-2] + step + around[:, 2:]) / 3 - step), 1)
    points = jnp.pad(points, ((0, 0), (1, 0), (0, 0)))
    last = STEPS * jnp.sum(length > 0, -1)
    t = jnp.minimum(jnp.arange(PIECES * STEPS + 1), last[:, None])[..., None] / STEPS
    wave = jnp.sin((2.5 + noise[:, None, 0:2]) * t + 3 * noise[:, None, 2:4])
    wave = wave * noise[:, None, 4:6] + 0.25 * jnp.sin(9 * t + 3 * noise[:, None, 6:8])
    size = jnp.minimum(1.0, jnp.sum(length, -1))[:, None, None]
    return points + 0.03 * care * size * wave, last


def _join(walks, last, joins, traits, noise):
    """Puts each stroke where it meets those before it: points as `walks`, [STROKES, p, 2]."""
    placed = [walks[0]]
    for s in range(1, STROKES):
        u, walk = joins[s], walks[s]
        before = jnp.stack(placed)
        first = jnp.floor(s * u[0]).astype(jnp.int32)
        second = jnp.floor(s * u[1]).astype(jnp.int32)
        target = before[first, _spot(u[2], traits["crossing"], last[first], noise[s, 10])]
        other = before[second, _spot(u[3], traits["crossing"], last[second], noise[s, 11])]
        own = walk - walk[_spot(u[4], traits["crossing"], last[s], noise[s, 12])]
        beside = 0.4 * jnp.floor(3 * u[6:8]) - 0.4
        own = own + jnp.where(u[5] > 1 - 0.5 * traits["apart"], beside, 0.0)
        chord, gap = walk[last[s]] - walk[0], other - target
        ratio = jnp.sum(gap**2) / (jnp.sum(chord**2) + 1e-6)
        bridge = (u[5] < 0.7 * traits["bridging"]) & (ratio > 0.1) & (ratio < 4.0)
        cosine = jnp.sum(chord * gap) / (jnp.sum(chord**2) + 1e-6)
        sine = (chord[0] * gap[1] - chord[1] * gap[0]) / (jnp.sum(chord**2) + 1e-6)
        turned = (walk - walk[0]) @ jnp.array([[cosine, sine], [-sine, cosine]])
        if s == STROKES - 1:
            low, high = before.min((0, 1)), before.max((0, 1))
            spot = jnp.floor(3 * u[:2]) - 1
            target = (low + high) / 2 + spot * ((high - low) / 2 + jnp.array([0.0, 0.3]))
            bridge = False
        placed.append(jnp.where(bridge, turned, own) + target + 0.05 * noise[s, 8:10])
    return jnp.stack(placed)


def _spot(u, crossing, last, slip):
    """Start, end or middle of a stroke of `last` steps, as an index; a hand may slip along the stroke."""
    place = jnp.where(u < 0.6 * crossing, 0.5, jnp.where(u < 0.5 + 0.3 * crossing, 0.0, 1.0))
    return jnp.round(jnp.clip(place + 0.05 * slip, 0, 1) * last).astype(jnp.int32)


def _frame(points, present, traits, own_size, habit, noise):
    """Slants, scales and shifts points [s, p, 2] into the unit frame."""
    x, y = points[..., 0], points[..., 1]
    slant = 0.10 * habit["slant"] + 0.06 * noise[0, 10]
    tilt = 0.04 * habit["rotation"] + 0.04 * noise[0, 11]
    points = jnp.stack([x - (slant + tilt) * y, y + tilt * x], -1)
    shape = 0.8 * (traits["wide"] - 0.5) + 0.07 * habit["aspect"] + 0.1 * noise[0, 12]
    shown = jnp.where(present[:, None, None], points, points[0])
    extent = shown.max((0, 1)) - shown.min((0, 1)) + 0.3
    # Characters of one alphabet fill boxes more alike than their strokes alone would.
    shape = shape - 0.35 * jnp.log(extent[0] / extent[1])
    stretch = jnp.exp(jnp.stack([0.5 * shape, -0.5 * shape]))
    points, shown = points * stretch, shown * stretch
    low, high = shown.min((0, 1)), shown.max((0, 1))
    flat = 12**0.5  # a uniform number times this has unit deviation
    size = SPREAD["alphabet"] * flat * (traits["big"] - 0.5) + SPREAD["character"] * flat * (own_size - 0.5)
    size = size + SPREAD["drawer"] * habit["size"] + SPREAD["drawing"] * noise[0, 13]
    side = jnp.minimum(SIDE * jnp.exp(size), 0.95) - PEN
    scale = side / jnp.max(high - low)
    shift = jnp.stack([habit["right"], habit["down"]]) * 0.03 + 0.05 * noise[0, 14:16]
    room = jnp.maximum(0.48 - PEN / 2 - scale * (high - low) / 2, 0.0)
    return (points - (low + high) / 2) * scale + 0.5 + jnp.clip(shift, -room, room)


def _ink(points, present, width, size):
    """Renders polylines [s, p, 2] where `present` [s] holds: uint8 [size, size, 1]."""
    start = points[:, :-1] * size
    # The thousandth of a pixel gives a point, such as a dot or the rest of a short stroke, a direction too.
    step = points[:, 1:] * size - start + jnp.array([1e-3, 0.0])
    middle = jnp.where(present[:, None, None], start + step / 2, -1e4)
    length = jnp.sqrt(jnp.sum(step**2, -1, keepdims=True))
    segments = jnp.concatenate([middle, step / length, length / 2], -1)
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
