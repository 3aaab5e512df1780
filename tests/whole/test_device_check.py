"""The script that a GPU is asked with works from end to end, before there is a GPU to ask."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="Triton is installed for tests on Linux alone")

ROOT = Path(__file__).resolve().parents[2]
FORBIDDEN = ("pydantic", "zarr", "ray", "prefect", "xarray", "obstore")


@pytest.mark.slow
def test_the_check_of_a_device_runs_on_a_cpu_where_it_is_tiny(tmp_path):
    missing = "".join(f"sys.modules[{name!r}] = None\n" for name in FORBIDDEN)
    script = ROOT / "tests" / "device" / "check.py"
    found = tmp_path / "device.json"
    code = f"import runpy, sys\n{missing}sys.argv = ['check', '--tiny', '--json', {str(found)!r}]\n"
    code += f"runpy.run_path({str(script)!r}, run_name='__main__')"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TRITON_INTERPRET": "1"}
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=tmp_path
    )
    assert run.returncode == 0, run.stdout + run.stderr
    parts = json.loads(found.read_text())
    assert {"bits", "gradients", "repeats", "posterior", "speeds", "regression"} <= parts.keys()
    assert not any("error" in parts[name] for name in parts if isinstance(parts[name], dict))


@pytest.mark.slow
def test_without_a_gpu_the_check_says_so_in_one_line(tmp_path):
    script = ROOT / "tests" / "device" / "check.py"
    code = "import runpy, sys, torch\ntorch.cuda.is_available = lambda: False\nsys.argv = ['c']\n"
    code += f"runpy.run_path({str(script)!r}, run_name='__main__')"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=tmp_path
    )
    assert run.returncode == 2
    assert run.stdout.count("\n") == 1
