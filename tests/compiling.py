"""How programs of tests are compiled: without optimisations, since these take longer than the programs.

Sampling, distortion and a training step then compile in less than a quarter of the time. `XLA_FLAGS= pytest` compiles
as the command does.
"""

import os

_QUICK = "--xla_cpu_use_fusion_emitters=false --xla_backend_optimization_level=0"
_DEVICES = "--xla_force_host_platform_device_count"


def for_tests() -> str:
    """XLA_FLAGS of this process, before JAX starts. Flags that are set already are kept; the quick ones are not added
    then."""
    # Each program is compiled in one piece: the other cores run other tests.
    return f"{os.environ.get('XLA_FLAGS', _QUICK)} {_DEVICES}=8 --xla_cpu_parallel_codegen_split_count=1"


def for_child(devices: int | None = None) -> str:
    """XLA_FLAGS of a process that a test starts: compiled as quickly, without other flags, on one device or `devices`
    virtual ones."""
    quick = " ".join(flag for flag in os.environ["XLA_FLAGS"].split() if flag in _QUICK.split())
    return quick if devices is None else f"{quick} {_DEVICES}={devices}"
