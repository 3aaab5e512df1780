"""What a container or a batch job may take of a machine, in both versions of control groups."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from workers.machine import cgroups, cores, memory

GB = 10**9
CPU_2, CPU_1 = "cpu.max", ("cpu.cfs_quota_us", "cpu.cfs_period_us")


@pytest.fixture(autouse=True)
def machine(monkeypatch) -> None:
    """Sixteen cores and 100 GB, whatever runs this."""
    monkeypatch.setattr(cores, "_allowed", lambda: 16)
    free = psutil.virtual_memory()._replace(available=100 * GB)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: free)


@pytest.fixture
def tree(monkeypatch, tmp_path):
    """Sets which group this process is in, and where the hierarchies are mounted."""

    def set_up(groups: str, *mounts: str) -> None:
        (tmp_path / "cgroup").write_text(f"{groups}\n")
        lines = [mount.replace("TOP", str(tmp_path)) for mount in mounts]
        (tmp_path / "mountinfo").write_text(
            "\n".join(["22 27 0:21 / /proc rw - proc x rw", *lines])
        )
        monkeypatch.setattr(cgroups, "PROCESS", tmp_path)

    return set_up


def unified(root: str = "/") -> str:
    return f"30 23 0:26 {root} TOP/unified rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate"


def version_1(controllers: str, root: str = "/") -> str:
    return f"33 31 0:30 {root} TOP/{controllers} rw,relatime - cgroup cgroup rw,{controllers}"


def write(folder: Path, **files: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(f"{content}\n")


def quota(folder: Path, microseconds: int) -> None:
    write(folder, cpu__cfs_quota_us=microseconds, cpu__cfs_period_us=100_000)


@pytest.mark.parametrize(
    ("parent", "own", "found"),
    [
        ("max", "max", 16),
        ("max", "300000", 3),
        ("200000", "max", 2),  # the limit of a job is that of the group above its steps
        ("200000", "700000", 2),
        ("700000", "200000", 2),
        ("max", "150000", 2),
        ("max", "1000", 1),
        ("max", "6400000", 16),
    ],
)
def test_the_smallest_quota_of_all_groups_counts_in_version_2(parent, own, found, tree, tmp_path):
    tree("0::/job_7/step_0", unified())
    write(tmp_path / "unified" / "job_7", cpu__max=f"{parent} 100000")
    write(tmp_path / "unified" / "job_7" / "step_0", cpu__max=f"{own} 100000")
    assert cores.available_cores() == found


@pytest.mark.parametrize(
    ("parent", "own", "found"), [(-1, -1, 16), (-1, 300_000, 3), (200_000, -1, 2), (-1, 1000, 1)]
)
def test_the_smallest_quota_of_all_groups_counts_in_version_1(parent, own, found, tree, tmp_path):
    tree("5:memory:/\n4:cpu,cpuacct:/slurm/job_7\n0::/", version_1("cpu,cpuacct"), unified())
    quota(tmp_path / "cpu,cpuacct", -1)
    quota(tmp_path / "cpu,cpuacct" / "slurm", parent)
    quota(tmp_path / "cpu,cpuacct" / "slurm" / "job_7", own)
    assert cores.available_cores() == found


@pytest.mark.parametrize("seen", ["/docker/4f5e", "/", "/../elsewhere"])
def test_a_container_sees_its_own_group_as_the_root(seen, tree, tmp_path):
    tree(f"4:cpu:{seen}", version_1("cpu", root="/docker/4f5e"))
    quota(tmp_path / "cpu", 300_000)
    assert cores.available_cores() == 3
    tree(f"0::{seen}", unified(root="/docker/4f5e"))
    write(tmp_path / "unified", cpu__max="200000 100000")
    assert cores.available_cores() == 2


def test_without_control_groups_all_that_the_scheduler_allows_is_there(monkeypatch, tmp_path):
    monkeypatch.setattr(cgroups, "PROCESS", tmp_path / "none")
    assert cores.available_cores() == 16
    assert memory.available() == 100 * GB


@pytest.mark.parametrize(
    ("parent", "own", "found"),
    [("max", "max", 100), ("max", 8 * GB, 6), (4 * GB, "max", 2), (8 * GB, 3 * GB, 1)],
)
def test_the_least_that_any_group_has_left_counts_in_version_2(parent, own, found, tree, tmp_path):
    tree("0::/job_7/step_0", unified())
    for place, limit in (("job_7", parent), ("job_7/step_0", own)):
        used = {"memory__current": 5 * GB, "memory__stat": f"anon {2 * GB}\ninactive_file {3 * GB}"}
        write(tmp_path / "unified" / place, memory__max=limit, **used)
    assert memory.available() == found * GB


@pytest.mark.parametrize(
    ("parent", "own", "found"),
    [(2**63 - 4096, 2**63 - 4096, 100), (2**63 - 4096, 8 * GB, 6), (4 * GB, 8 * GB, 2)],
)
def test_the_least_that_any_group_has_left_counts_in_version_1(parent, own, found, tree, tmp_path):
    tree("4:memory:/slurm/job_7", version_1("memory"))
    for place, limit in (("slurm", parent), ("slurm/job_7", own)):
        write(
            tmp_path / "memory" / place,
            memory__limit_in_bytes=limit,
            memory__usage_in_bytes=5 * GB,
            memory__stat=f"inactive_file 0\ntotal_inactive_file {3 * GB}",
        )
    assert memory.available() == found * GB


def test_a_group_that_is_over_its_limit_has_nothing_left(tree, tmp_path):
    tree("0::/", unified())
    write(tmp_path / "unified", memory__max=GB, memory__current=2 * GB)
    assert memory.available() == 0


@pytest.mark.parametrize(("set_before", "found"), [({}, "2"), ({"OMP_NUM_THREADS": "5"}, "5")])
def test_libraries_are_told_of_a_quota(set_before, found, tree, tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    for name, value in set_before.items():
        monkeypatch.setenv(name, value)
    tree("0::/", unified())
    write(tmp_path / "unified", cpu__max="max 100000")
    cores.tell_libraries()
    assert os.environ.get("OMP_NUM_THREADS") == set_before.get("OMP_NUM_THREADS")
    write(tmp_path / "unified", cpu__max="200000 100000")
    cores.tell_libraries()
    assert os.environ["OMP_NUM_THREADS"] == found


BIND = "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); print(1)"
CANNOT_BIND = "del os.sched_getaffinity; print(os.cpu_count())"  # as on macOS


@pytest.mark.parametrize("code", [BIND, CANNOT_BIND])
@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="processes are not bound here")
def test_what_a_process_is_bound_to_counts_where_it_can_be(code):
    code = f"import os; {code}; from workers.machine import cores; print(cores._allowed())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    wanted, found = done.stdout.split()
    assert found == wanted
