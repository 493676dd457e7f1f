"""Names for the independent random streams that are split or folded from a key; a new one gets its own number."""

import enum


class OfStep(enum.IntEnum):
    """The key of a training step is split into one key for each, in this order."""

    SAMPLE = 0  # which images
    FETCH = 1  # the form of images that are drawn in the step
    AUGMENT = 2  # split again into one key per image


class OfImage(enum.IntEnum):
    """Folded into the key of an image."""

    NOISE = 101  # of the layers that draw at random
    PHOTO = 102  # light, colour and erasing, after the affine map
    TONE = 104  # of an identity's variant


class OfGlyph(enum.IntEnum):
    """Folded into the key of an alphabet or of a character: negative, since characters and drawers are numbered from
    0."""

    TRAITS = -1  # of an alphabet; the strokes of a character
    FORMS = -2  # how the strokes of a character are composed
    HABITS = -2  # of the drawers in an alphabet: that of drawer d is `HABITS` - d
