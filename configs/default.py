"""The defaults, which other configurations change; siamjax/run/settings.py lists all settings with their meaning."""

from siamjax.run.settings import default as get_config

__all__ = ["get_config"]
