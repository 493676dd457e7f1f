"""Settings of the process that the command makes before JAX starts."""

import os
import subprocess
import sys

from siamjax import host

KERNELS = "--xla_cpu_experimental_ynn_fusion_type"


def test_existing_variables_are_kept_and_the_others_are_added():
    mine = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "GLIBC_TUNABLES": "glibc.malloc.arena_max=2"}
    added = host.settings(mine)
    assert added["XLA_FLAGS"] == f"--xla_force_host_platform_device_count=2 {KERNELS}=dot,reduce"
    assert added["GLIBC_TUNABLES"] == "glibc.malloc.arena_max=2:glibc.malloc.hugetlb=1"
    chosen = {
        "XLA_FLAGS": f"{KERNELS}=reduce",
        "GLIBC_TUNABLES": "glibc.malloc.hugetlb=0",
        "JAX_COMPILATION_CACHE_DIR": "/x",
        "JAX_COMPILATION_CACHE_MAX_SIZE": "7",
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "3",
    }
    assert host.settings(chosen) == {}
    assert host.settings(mine | added) == {}
    assert host.settings(mine | {"JAX_COMPILATION_CACHE_MAX_SIZE": "7"}).get("JAX_COMPILATION_CACHE_MAX_SIZE") is None


def test_a_program_that_tunes_itself_restarts_with_its_arguments(tmp_path):
    script = "import os, sys; from siamjax import host; host.tune(); print(sys.argv[1:], os.environ['GLIBC_TUNABLES'])"
    command = [sys.executable, "-c", script, "one", "two words"]
    clean = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}
    done = subprocess.run(command, env=clean, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "['one', 'two words'] glibc.malloc.hugetlb=1", done.stderr


def test_a_program_from_standard_input_is_not_restarted():
    """Standard input cannot be read a second time."""
    script = "from siamjax import host; host.tune(); print('continued')"
    clean = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}
    done = subprocess.run([sys.executable, "-"], input=script, env=clean, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "continued", done.stderr


def test_programs_are_still_stored_after_a_process_was_killed_while_it_stored_one(tmp_path):
    script = "from siamjax import host; host.tune(); import jax; jax.jit(lambda x: x * {} + 1)(1.0)"
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    for name in ("JAX_COMPILATION_CACHE_DIR", "JAX_COMPILATION_CACHE_MAX_SIZE"):
        environment.pop(name, None)
    stored = []
    for number in (2, 3):
        subprocess.run([sys.executable, "-c", script.format(number)], env=environment, timeout=60, check=True)
        stored.append(set(tmp_path.rglob("*-cache")))
        next(tmp_path.rglob("*-atime")).unlink()
    assert len(stored[1] - stored[0]) == 1
