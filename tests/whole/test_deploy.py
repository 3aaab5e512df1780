"""The recipes of deploy/: whole, closed, without secrets, and of one version of everything."""

import json
import re
import shutil
import subprocess
import tomllib
from copy import deepcopy

import pytest

from support.manifests import DEPLOY, documents, faults, objects, patched, pods

BASE, JOB = DEPLOY / "k8s" / "base", DEPLOY / "k8s" / "job"
COMPOSE = DEPLOY / "compose"
ROOT = DEPLOY.parent
SCRIPTS = sorted((DEPLOY / "slurm").iterdir())
ALONE = ("sweep={}", "regression=null", "theories=[nngp]")
NAMES = re.compile(r"\b(finitewidth_[a-z_]+|process_[a-z_]+)\b")


def everything() -> list:
    return [*objects(BASE), *objects(JOB), *patched()]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_can_be_read_by_bash_and_stop_no_ray_of_others(script):
    assert subprocess.run(["bash", "-n", script], capture_output=True).stderr == b""
    text = script.read_text()
    assert "set -euo pipefail" in text
    assert not re.search(r"ray stop|pkill|killall", text)


def test_a_job_removes_the_folders_of_those_that_were_killed(tmp_path):
    script = (DEPLOY / "slurm" / "campaign.sbatch").read_text()
    (sweep,) = re.findall(r"(?ms)^sweep\(\) \{$.*?^\}$", script)
    for name in ("fw7.abcdef", "fw8.abcdef", "fw71.abcdef", "fwother", "fwabcdefgh"):
        (tmp_path / name).mkdir()
    for squeue, left in (("return 1", 5), ("echo 7; echo 9", 3)):  # Slurm that does not answer
        stub = f"squeue() {{ {squeue}; }}"
        subprocess.run(["bash", "-euc", f"{stub}\n{sweep}\nsweep {tmp_path}"], check=True)
        assert len(list(tmp_path.iterdir())) == left
    assert {each.name for each in tmp_path.iterdir()} == {"fw7.abcdef", "fwother", "fwabcdefgh"}


def test_every_object_has_known_fields_alone():
    for each in [*objects(BASE), *objects(JOB)]:
        assert faults(each["kind"], each) == []
    for group in patched():
        assert faults("workers", group) == []
    for file in (DEPLOY / "k8s").rglob("kustomization.yaml"):
        assert faults("Kustomization", *documents(file)) == []


def test_a_field_that_is_misspelt_is_found():
    (ray,) = [deepcopy(each) for each in objects(BASE) if each["kind"] == "RayCluster"]
    ray["spec"]["headGroupSpec"]["template"]["spec"]["containers"][0]["volumeMount"] = []
    (fault,) = faults("RayCluster", ray)
    assert "volumeMount" in fault


def test_the_base_lists_its_files_and_has_the_kinds_that_it_needs():
    (listed,) = documents(BASE / "kustomization.yaml")
    there = {file.name for file in BASE.iterdir()} - {"kustomization.yaml"}
    assert set(listed["resources"]) == there
    kinds = {each["kind"] for each in objects(BASE)}
    assert kinds >= {"NetworkPolicy", "RayCluster", "ResourceQuota", "StatefulSet"}


def test_no_pod_is_root_or_writes_where_it_should_not():
    found = pods(everything())
    assert len(found) >= 8
    for pod in found:
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] > 0
        for container in [*pod["containers"], *pod.get("initContainers", [])]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert {"requests", "limits"} == set(container["resources"])
            mounted = {each["name"] for each in container.get("volumeMounts", [])}
            assert mounted <= {each["name"] for each in pod["volumes"]} | {"data"}


def test_what_runs_for_long_is_watched():
    for each in everything():
        if each.get("kind") in ("Deployment", "StatefulSet"):
            for container in each["spec"]["template"]["spec"]["containers"]:
                assert "livenessProbe" in container


def test_every_group_of_workers_grows_from_nothing():
    groups = patched()
    assert {group["groupName"] for group in groups} == {"cpu", "gpu"}
    for group in groups:
        assert (group["replicas"], group["minReplicas"]) == (0, 0)
        assert group["maxReplicas"] > 0
    (gpu,) = [group for group in groups if group["groupName"] == "gpu"]
    (container,) = gpu["template"]["spec"]["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"


def test_a_pod_of_no_policy_hears_nobody():
    policies = [each for each in objects(BASE) if each["kind"] == "NetworkPolicy"]
    (closed,) = [each for each in policies if each["spec"]["podSelector"] == {}
                 and "ingress" not in each["spec"] and "egress" not in each["spec"]]  # fmt: skip
    assert set(closed["spec"]["policyTypes"]) == {"Ingress", "Egress"}


def variables(found: object) -> list:
    """Every entry of an `env` within an object."""
    return [
        variable
        for pod in pods(found)
        for container in [*pod["containers"], *pod.get("initContainers", [])]
        for variable in container.get("env", [])
    ]


SECRET = re.compile(r"TOKEN$|PASSWORD$|AUTH_STRING$")


def test_no_secret_is_in_a_manifest():
    assert not [each for each in everything() if each.get("kind") == "Secret"]
    found = [each for each in variables(everything()) if SECRET.search(each["name"])]
    assert len(found) >= 6
    for each in found:
        assert "secretKeyRef" in each["valueFrom"]


def test_compose_opens_loopback_alone_and_takes_secrets_from_the_environment():
    for file in COMPOSE.glob("*.yaml"):
        (found,) = documents(file)
        assert faults("compose", found) == []
    (compose,) = documents(COMPOSE / "compose.yaml")
    for service in compose["services"].values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert "healthcheck" in service
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
        for name, value in service["environment"].items():
            assert not SECRET.search(name) or value.startswith("${")


def test_the_versions_of_all_recipes_are_those_of_the_constraints():
    pinned = dict(re.findall(r"(?m)^([\w-]+)==(\S+)", (ROOT / "constraints.txt").read_text()))
    for each in everything():
        spec = each.get("spec", {})
        for ray in (spec, spec.get("rayClusterSpec", {})):
            assert ray.get("rayVersion", pinned["ray"]) == pinned["ray"]
    text = (DEPLOY / "docker" / "constraints.txt").read_text()
    more = dict(re.findall(r"(?m)^([\w-]+)==(\S+)", text))
    assert not set(more) & set(pinned)
    assert f"ray[default]=={pinned['ray']}" in text
    manifests = "".join(file.read_text() for file in DEPLOY.rglob("*.yaml"))
    assert len({*re.findall(r"image: (postgres:\S+)", manifests)}) == 1


def test_the_image_is_pinned_and_not_root_and_copies_what_the_wheel_is_made_of():
    text = (DEPLOY / "docker" / "Dockerfile").read_text()
    assert re.search(r"(?m)^ARG BASE=\S+:\d+\.\d+\.\d+-", text)
    assert "-c constraints.txt -c ray.txt" in text
    final = text.rpartition("\nFROM ")[2]
    assert re.search(r"(?m)^USER 10001:10001$", final)
    assert "HEALTHCHECK" in final
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    for package in project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]:
        assert f"COPY {package} {package}\n" in text


@pytest.mark.parametrize("overlay", ["overlays/cpu", "overlays/gpu", "job"])
def test_overlays_are_built_by_kustomize(overlay):
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed")
    command = ["kubectl", "kustomize", DEPLOY / "k8s" / overlay]
    built = documents(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    for each in built:
        assert faults(each["kind"], each) == []
        assert each["metadata"].get("namespace", "finitewidth") == "finitewidth"
        for pod in pods(each):
            for container in pod["containers"]:
                assert re.fullmatch(r"\S+:\d+\.\d+\S*", container["image"])


def test_alerts_are_what_promtool_expects():
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed")
    for command in (["check", "config", "prometheus.yml"], ["test", "rules", "rules_test.yml"]):
        place = {"cwd": DEPLOY / "prometheus", "capture_output": True, "text": True}
        found = subprocess.run(["promtool", *command], **place)
        assert found.returncode == 0, found.stdout + found.stderr


def expressions() -> dict[str, str]:
    """Every expression of the alerts and of the dashboard, by where it stands."""
    (rules,) = documents(DEPLOY / "prometheus" / "rules.yml")
    found = {each["alert"]: each["expr"] for group in rules["groups"] for each in group["rules"]}
    dashboard = json.loads((DEPLOY / "grafana" / "finitewidth.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            found[f"{panel['title']} {target['refId']}"] = target["expr"]
    return found


def test_every_expression_names_metrics_that_a_driver_exports(tmp_path):
    from pipelines.engine import engine
    from pipelines.run.metrics import Metrics
    from support.driving import prepared

    endings = {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum"]}
    with engine.drive(prepared(tmp_path, *ALONE), engine.Inline()) as driven:
        families = [*Metrics(driven).registry.collect()]
    known = {each.name + ending for each in families for ending in endings.get(each.type, [""])}
    used = {name for each in expressions().values() for name in NAMES.findall(each)}
    assert used <= known
    ours = {name for name in known if name.startswith("finitewidth_")}
    by_family = {name for name in ours if not name.endswith(("_sum", "_count", "_bucket"))}
    assert by_family <= used  # and nobody exports what nobody looks at
    assert all(NAMES.search(each) for each in expressions().values())
