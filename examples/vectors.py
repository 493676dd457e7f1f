"""A gallery of your own vectors, with no network: digits by their pixels. Prints who is named, and which strangers are.

python examples/vectors.py
"""

import tempfile

import sklearn.datasets

import siamjax

x, y = sklearn.datasets.load_digits(return_X_y=True)
known = y < 8

with tempfile.TemporaryDirectory() as folder:
    gallery = siamjax.Gallery.of_vectors(folder, threshold=0.92)  # cosine; or metric="l2"
    gallery.enroll_vectors(x[:1000][known[:1000]], y[:1000][known[:1000]])
    names = [found.identity for found in siamjax.Gallery(folder, threshold=0.92).identify_vectors(x[1000:])]

right = [name == str(digit) for name, digit in zip(names, y[1000:], strict=True) if digit < 8]
accepted = [name is not None for name, digit in zip(names, y[1000:], strict=True) if digit >= 8]
print(f"known digits named rightly: {sum(right) / len(right):.1%}")
print(f"strangers (8 and 9) taken for a known digit: {sum(accepted) / len(accepted):.1%}")
