"""Where images come from: every source loads `Dataset`s of the same form."""

from siamjax.data.dataset import Dataset, Images, check_processes, form
from siamjax.data.folder import read_all as read_folder
from siamjax.data.sources import SOURCES, load
from siamjax.data.types import Datasets, Source

__all__ = ["SOURCES", "Dataset", "Datasets", "Images", "Source", "check_processes", "form", "load", "read_folder"]
