"""A Slurm of two nodes on this machine, each with a GPU that is none, under Debian."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PACKAGES = ("slurm-wlm", "munge")
BATCH = Path(__file__).parents[2] / "deploy" / "slurm"
CONFIG = """
ClusterName=fwt
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={home}/munge.socket,cred_expire=10
CryptoType=crypto/munge
StateSaveLocation={home}/state
SlurmdSpoolDir={home}/spool-%n
SlurmctldPidFile={home}/slurmctld.pid
SlurmdPidFile={home}/slurmd-%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=2,batch_sched_delay=1
GresTypes=gpu
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=30
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={first} CPUs=4 Gres=gpu:1
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={second} CPUs=4 Gres=gpu:1
PartitionName=main Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
"""
GPUS = """
NodeName=n1 Name=gpu Count=1 File=/dev/null
NodeName=n2 Name=gpu Count=1 File=/dev/zero
"""


def missing() -> str:
    """Why there can be no Slurm here; installs it where that is possible."""
    if shutil.which("slurmctld") and shutil.which("slurmd") and shutil.which("munged"):
        return "" if os.geteuid() == 0 else "slurmd needs root"
    if os.geteuid() != 0 or not Path("/etc/debian_version").exists():
        return "Slurm is not installed, and is only by root on Debian"
    quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update"], ["install", "-y", "--no-install-recommends", *PACKAGES]):
        found = subprocess.run(["apt-get", "-qq", *command], env=quiet, capture_output=True)
        if found.returncode:
            return f"apt-get cannot install {' '.join(PACKAGES)}"
    return ""


@dataclass
class Slurm:
    """A running Slurm; commands find it by their environment."""

    home: Path
    environment: dict[str, str]

    def call(self, *command: object) -> str:
        """What a command prints."""
        return subprocess.run(
            [str(each) for each in command],
            env=self.environment,
            cwd=self.home,
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        ).stdout.strip()

    def submit(self, *arguments: object) -> str:
        """The number of a new job."""
        return self.call("sbatch", "--parsable", *arguments)

    def state(self, job: str) -> str:
        """RUNNING, COMPLETED and so on."""
        fields = dict(each.split("=", 1) for each in self.fields(job) if "=" in each)
        return fields["JobState"]

    def fields(self, job: str) -> list[str]:
        """All that Slurm knows of a job."""
        return self.call("scontrol", "show", "job", job).split()

    def log(self, job: str) -> str:
        """What a job has printed."""
        file = self.home / f"finitewidth-{job}.log"
        return file.read_text(errors="replace") if file.exists() else ""


@contextmanager
def slurm(environment: dict[str, str]) -> Iterator[Slurm]:
    """Slurm, for the length of a block."""
    home = Path(tempfile.mkdtemp(prefix="fws"))
    daemons: list[subprocess.Popen[bytes]] = []
    try:
        for folder in ("state", "spool-n1", "spool-n2"):
            (home / folder).mkdir()
        port, first, second = _ports(3)
        known = {"home": home, "host": socket.gethostname().split(".")[0]}
        text = CONFIG.format(**known, port=port, first=first, second=second)
        (home / "slurm.conf").write_text(text)
        (home / "gres.conf").write_text(GPUS)
        (home / "munge.key").write_bytes(os.urandom(128))
        (home / "munge.key").chmod(0o400)
        made = Slurm(home, os.environ | environment | {"SLURM_CONF": str(home / "slurm.conf")})
        for command in (
            ["munged", "-F", "--force", f"--socket={home}/munge.socket",
             f"--key-file={home}/munge.key", f"--log-file={home}/munge.log",
             f"--pid-file={home}/munge.pid", f"--seed-file={home}/munge.seed"],
            ["slurmctld", "-D", "-f", str(home / "slurm.conf")],
            ["slurmd", "-D", "-N", "n1", "-f", str(home / "slurm.conf")],
            ["slurmd", "-D", "-N", "n2", "-f", str(home / "slurm.conf")],
        ):  # fmt: skip
            log = (home / f"daemon-{len(daemons)}.log").open("wb")
            with log:
                daemons.append(
                    subprocess.Popen(command, stdout=log, stderr=log, env=made.environment)
                )
            time.sleep(1)
        _await(made)
        try:
            yield made
        finally:
            _empty(made)
    finally:
        for daemon in reversed(daemons):
            daemon.send_signal(signal.SIGTERM)
            try:
                daemon.wait(30)
            except subprocess.TimeoutExpired:
                daemon.kill()
        shutil.rmtree(home, ignore_errors=True)


def _empty(made: Slurm) -> None:
    """End all jobs: what is left when the daemons go would stay for ever."""
    made.call("scancel", "--user=root")
    deadline = time.monotonic() + 60
    while made.call("squeue", "-h") and time.monotonic() < deadline:
        time.sleep(0.5)


def _await(made: Slurm) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            if made.call("sinfo", "-h", "-o", "%D %t") == "2 idle":
                return
        except subprocess.CalledProcessError:
            pass
        if time.monotonic() > deadline:
            logs = [file.read_text() for file in made.home.glob("daemon-*.log")]
            raise RuntimeError("\n".join(logs))
        time.sleep(0.5)


def _ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    found = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return found
