"""Settings of the process, made before JAX starts, without which a CPU trains at half its speed.

- XLA's newer library of kernels, for convolutions, matrix products and sums: convolutions by it are two to three times
  as fast. It is off by default in JAX 0.10.
- Large memory pages. XLA takes the memory of a step anew every time; in pages of 4 KiB, clearing them costs a third of
  the step.
- A folder for compiled programs, so that the same command starts in seconds the second time.

In a training program of one's own, call `tune()` before importing jax, or set what `settings` returns in the shell.
"""

import hashlib
import os
import pathlib
import platform
import sys
from collections.abc import Mapping

_KERNELS = "--xla_cpu_experimental_ynn_fusion_type"
_PAGES = "glibc.malloc.hugetlb"


def settings(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that `environment` lacks, with their values; what is set there already stays as it is."""
    added = {}
    flags = environment.get("XLA_FLAGS", "")
    if _KERNELS not in flags:
        added["XLA_FLAGS"] = f"{flags} {_KERNELS}=dot,reduce".strip()
    tunables = environment.get("GLIBC_TUNABLES", "")
    if platform.libc_ver()[0] == "glibc" and _PAGES not in tunables:
        added["GLIBC_TUNABLES"] = f"{tunables}:{_PAGES}=1".strip(":")
    cache = environment.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    compiled = {
        "JAX_COMPILATION_CACHE_DIR": os.path.join(cache, "siamjax", f"compiled-{_processor()}"),
        "JAX_COMPILATION_CACHE_MAX_SIZE": str(2**30),  # bytes; the oldest programs go first
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
    }
    return added | {name: value for name, value in compiled.items() if name not in environment}


def _processor():
    """A short name for the processor's instructions: compiled programs use them."""
    try:
        about = pathlib.Path("/proc/cpuinfo").read_text()
    except OSError:
        about = platform.processor()
    flags = next((line for line in about.splitlines() if line.startswith(("flags", "Features"))), about)
    return hashlib.sha256(flags.encode()).hexdigest()[:12]


def tune() -> None:
    """Makes the settings, and starts the program anew for the one that is read only as a process starts.

    A program that is no file (a notebook, standard input) is not started anew: it goes on without large pages.
    """
    added = settings(os.environ)
    os.environ.update(added)
    if "GLIBC_TUNABLES" in added and (sys.argv[0] == "-c" or os.path.isfile(sys.argv[0])) and not _interactive():
        sys.stdout.flush()
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _interactive():
    return hasattr(sys, "ps1") or sys.flags.interactive or "ipykernel" in sys.modules
