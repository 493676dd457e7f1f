"""Five folds of verification on a folder with a subfolder of photographs for each person.

python examples/folds.py FOLDER
"""

import sys

import siamjax

x, y = siamjax.data.read_folder(sys.argv[1], size=32)
figures = siamjax.cross_validate(x, y, folds=5, encoder="pyramid", loss="ntxent", augment="photo", steps=300)
for name, of_folds in figures.items():
    print(f"{name:16} {of_folds.mean():.1%} ± {of_folds.std(ddof=1):.1%}")
