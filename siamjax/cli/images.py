"""Which image files the arguments of a command name."""

import os
import pathlib


def find(paths: list[str]) -> tuple[list[str], list[str]]:
    """Image files and the identity that each one's folder says."""
    from siamjax.data import folder

    images, identities = [], []
    for path in paths:
        if os.path.isdir(path):
            found = folder.find(path)
            images += [str(file.path) for file in found]
            identities += [file.identity for file in found]
        else:
            images.append(path)
            identities.append(pathlib.Path(os.path.abspath(path)).parent.name)
    return images, identities
