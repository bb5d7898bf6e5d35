"""Kernels that several processes compile into one cache."""
import os
import subprocess
import sys

KERNELS = """
import numpy as np
from cadvlm.cad.bounds import compiled


@compiled
def ordered(values):
    return np.argsort(values)


@compiled
def sorted_values(values):
    return np.sort(values)
"""
USE = """
import sys
import numba
import numpy as np
import kernels

for _ in range(3 if "later" in sys.argv else 0): numba.njit(lambda v: v)(1.0)   # so many functions fewer has the order

values = np.random.default_rng(0).random(100)
if "order" in sys.argv: assert (values[kernels.ordered(values)] == np.sort(values)).all()
if "sort" in sys.argv: assert (kernels.sorted_values(values) == np.sort(values)).all()
"""


def test_processes_that_compile_into_one_cache_do_not_mix_up_their_kernels(tmp_path, root):
    (tmp_path / "kernels.py").write_text(KERNELS)
    (tmp_path / "use.py").write_text(USE)
    env = dict(os.environ, PYTHONPATH=f"{tmp_path}{os.pathsep}{root}")
    for words in (["order", "later"], ["sort"], ["order", "sort"]):     # each compiles one of them; the last uses both
        made = subprocess.run([sys.executable, "use.py", *words], cwd=tmp_path, env=env, capture_output=True, text=True)
        assert made.returncode == 0, made.stderr


def test_a_forked_process_numbers_its_kernels_apart():
    from numba.core.bytecode import FunctionIdentity

    import cadvlm.cad.bounds  # noqa: F401

    reading, writing = os.pipe()
    if os.fork() == 0:
        os.write(writing, str(next(FunctionIdentity._unique_ids)).encode())
        os._exit(0)
    os.wait()
    assert abs(int(os.read(reading, 100)) - next(FunctionIdentity._unique_ids)) > 1000
