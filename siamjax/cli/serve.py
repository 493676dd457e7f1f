"""The commands `serve` and `demo`: a network and a gallery as an HTTP service, and a page to try them on."""

import argparse
import contextlib
import json
import tempfile
import threading
import webbrowser
from collections.abc import Callable

from siamjax import extras
from siamjax.cli import decision

_SHIPPED = "omniglot-fast"


def add_commands(add: Callable[..., argparse.ArgumentParser]) -> None:
    """Adds the commands; `add` as in `siamjax.cli.GROUPS`."""
    serve = add("serve", _serve, "answer over HTTP: embed, verify, identify, search, enroll, rename; see docs/serve.md")
    demo = add("demo", _demo, "try a network in the browser: draw, compare two images, fill a gallery")
    for command, without in ((serve, "none"), (demo, "a new one, deleted at the end")):
        command.add_argument("network", nargs="?", help=f"a CHECKPOINT; default: that of the gallery, or {_SHIPPED}")
        command.add_argument("--gallery", metavar="GALLERY", help=f"folder of the gallery; default: {without}")
        command.add_argument("--port", type=int, default=8765, help="0: any free one (default 8765)")
        decision.add_options(command)
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine alone)")
    serve.add_argument("--token-file", metavar="FILE", help="its secret is needed by every request, if given")
    demo.add_argument("--no-open", action="store_true", help="do not open the browser")


def _serve(options):
    with extras.needed_for("siamjax serve"):
        from siamjax import serve
    token = serve.token(options.host, options.token_file)
    _run(options, options.host, options.gallery, token=token)


def _demo(options):
    with contextlib.ExitStack() as stack:
        # At Ctrl-C an enrolment may still write to a gallery that is deleted.
        gallery = options.gallery or stack.enter_context(
            tempfile.TemporaryDirectory(prefix="siamjax-demo-", ignore_cleanup_errors=True)
        )
        _run(options, "127.0.0.1", gallery, page=True)


def _run(options, host, place, **arguments):
    with extras.needed_for(f"siamjax {options.command}"):
        from siamjax import serve
    with serve.listen(host, options.port) as listening:
        name = f"[{host}]" if ":" in host else host
        address = f"http://{name}:{listening.getsockname()[1]}"

        def make():
            return serve.application(*_opened(options, place), **arguments)

        def started():
            if options.json:
                print(json.dumps({"address": address}), flush=True)
            else:
                print(f"siamjax {options.command}: {address} (Ctrl-C ends it)", flush=True)
            if options.command == "demo" and not options.no_open:
                threading.Thread(target=webbrowser.open, args=[address], daemon=True).start()

        if options.command == "demo":  # Its page comes first, and the network behind it.
            serve.run_while_loading(make, listening, started)
        else:
            app = make()
            serve.run(app, listening, started, app.state.is_ready)


def _opened(options, place):
    """The network, and the gallery in the folder `place`, which may be None."""
    from siamjax.gallery import Gallery
    from siamjax.network import Network

    moved, name = decision.arguments(options), options.network
    if name is None and options.gallery is not None:
        gallery = Gallery(options.gallery, **moved)
        return gallery.network, gallery
    network = Network.load(name or _SHIPPED, **moved)
    if network.towers == 1:
        return network, None if place is None else Gallery(place, network)
    if options.gallery is not None:
        raise ValueError(
            f"gallery={options.gallery}: this network embeds each side of a pair in its own way, and has no gallery; "
            "leave --gallery out, or serve one side, which Network.tower(SIDE).save(FOLDER) writes"
        )
    return network, None
