"""A network and a gallery as an HTTP service, and the page of `siamjax demo`; needs the extra `serve`."""

from siamjax.serve._application import application
from siamjax.serve._run import listen, run, run_while_loading, token
from siamjax.serve._types import Limits

__all__ = ["Limits", "application", "listen", "run", "run_while_loading", "token"]
