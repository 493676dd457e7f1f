"""The defaults that the other configurations change; siamjax/run/settings.py lists every setting with its meaning."""

from siamjax.run.settings import default as get_config

__all__ = ["get_config"]
