"""What writing a file brings along: no cluster, unless there is one."""

import subprocess
import sys

PROGRAM = """
import sys
import numpy as np, xarray as xr
from cbrl_bayes.files import netcdf_bytes
content = netcdf_bytes(xr.Dataset({"a": ("x", np.arange(3.0))}), {})
assert content[1:4] == b"HDF" and "distributed" not in sys.modules
import dask.distributed
assert netcdf_bytes(xr.Dataset({"a": ("x", np.arange(3.0))}), {})[1:4] == b"HDF"
assert sys.modules["distributed"] is not None
"""


def test_writing_imports_no_cluster_and_hides_none():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
