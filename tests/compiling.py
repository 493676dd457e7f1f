"""How programs of tests are compiled: they take longer to compile than to run, so XLA's costly ways are off.

Sampling, distortion and a training step then compile in a quarter of the time. `XLA_FLAGS= pytest` compiles as the
command does.
"""

import os

_QUICK = "--xla_cpu_use_fusion_emitters=false --xla_backend_optimization_level=1"
_DEVICES = "--xla_force_host_platform_device_count"


def for_tests() -> str:
    """XLA_FLAGS of this process, before JAX starts; what the user's has is kept, and nothing made quick then."""
    # Whole: both cores have tests to run meanwhile.
    return f"{os.environ.get('XLA_FLAGS', _QUICK)} {_DEVICES}=8 --xla_cpu_parallel_codegen_split_count=1"


def for_child(devices: int | None = None) -> str:
    """XLA_FLAGS of a process that a test starts: compiled likewise, on one device or `devices` virtual ones."""
    quick = " ".join(flag for flag in os.environ["XLA_FLAGS"].split() if flag in _QUICK.split())
    return quick if devices is None else f"{quick} {_DEVICES}={devices}"
