"""Job files: what can be seen of them without a cluster."""

import copy
import importlib.util
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.cluster.kuberay_schema import CLUSTER, CUT_OUT, cut
from tests.conftest import absent

JOBS = sorted(file for file in CLUSTER.parent.iterdir() if file.suffix in {".sh", ".slurm"})
RAY = re.compile(r"(?<![/\w-])(?:ray|run_ray|ray_options)[ =]")
OPTION = re.compile(r"--[a-z][a-z-]+")
POD = ("spec", "workerGroupSpecs", 0, "template", "spec")


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.stem)
def test_shellcheck_finds_nothing(job: Path) -> None:
    if shutil.which("shellcheck") is None:
        absent("shellcheck is not installed")
    called_by_traps = "SC2317"
    done = subprocess.run(
        ["shellcheck", "--external-sources", f"--exclude={called_by_traps}", str(job)],
        cwd=job.parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def cluster() -> dict[str, Any]:
    return yaml.safe_load(CLUSTER.read_text())


def wrong(resource: dict[str, Any]) -> list[str]:
    """What KubeRay's schema says against a resource."""
    found = jsonschema.Draft202012Validator(json.loads(CUT_OUT.read_text())["schema"]).iter_errors(resource)
    return [f"{'.'.join(map(str, error.absolute_path))}: {error.message}" for error in found]


def test_kuberay_takes_the_cluster() -> None:
    assert wrong(cluster()) == []


def spoil(resource: Any, *place: Any, value: Any) -> None:
    *path, last = place
    for name in path:
        resource = resource[name]
    resource[last] = value


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ((*POD, "hostUser"), False),
        ((*POD, "terminationGracePeriodSeconds"), "120"),
        ((*POD, "containers", 0, "securityContext", "procMounts"), "Unmasked"),
        ((*POD, "containers", 0, "resources", "limits", "cpu"), "sixteen"),
        (("spec", "authOptions", "mode"), "tokens"),
        (("spec", "workerGroupSpecs", 0, "rayStartParams", "num-cpus"), 1),
    ],
)
def test_the_schema_refuses_what_kubernetes_would(place: tuple[Any, ...], value: Any) -> None:
    resource = copy.deepcopy(cluster())
    spoil(resource, *place, value=value)
    assert wrong(resource)


def test_a_field_that_the_definition_does_not_name_is_not_cut_out() -> None:
    definition = {"type": "object", "properties": {"a": {"type": "object", "properties": {"b": {"type": "string"}}}}}
    assert cut(definition, {"a": {"b": "x"}})["properties"]["a"]["additionalProperties"] is False
    with pytest.raises(ValueError, match=r"\.a has no c"):
        cut(definition, {"a": {"c": "x"}})


def test_hosts_of_the_cluster_ask_for_a_token_and_write_no_image() -> None:
    spec = cluster()["spec"]
    assert spec["authOptions"] == {"mode": "token", "secretName": "swe-aem-ray"}
    bare, imaged = (group["template"]["spec"] for group in spec["workerGroupSpecs"])
    (mount,) = (one for one in imaged["containers"][0]["volumeMounts"] if one["name"] == "images")
    assert mount["readOnly"]
    assert bare["hostUsers"] is False
    assert "privileged" not in bare["containers"][0]["securityContext"]


def test_ray_has_the_options_that_job_files_give_it() -> None:
    found = importlib.util.find_spec("ray")  # its text: importing takes long
    if found is None:
        absent("ray is not installed")
    scripts = Path(str(found and found.origin)).parent / "scripts"
    known = {
        name for file in ("scripts.py", "symmetric_run.py") for name in OPTION.findall((scripts / file).read_text())
    }
    lines = [line.partition(" -- ")[0] for file in (*JOBS, CLUSTER) for line in file.read_text().splitlines()]
    given = {name for line in lines if RAY.search(line) for name in OPTION.findall(line)}
    groups = [cluster()["spec"]["headGroupSpec"], *cluster()["spec"]["workerGroupSpecs"]]
    given |= {f"--{name}" for group in groups for name in group["rayStartParams"]}
    assert {"--address", "--resources", "--node-id"} <= given
    assert given <= known
