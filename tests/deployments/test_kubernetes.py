"""Values for Prefect's charts and the job templates of the work pools."""

import json
import re
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

FOLDER = Path(__file__).resolve().parents[2] / "deployments" / "kubernetes"
FILLED = {"name": "nightly", "namespace": "default", "image": "dealrec:latest", "labels": {"app": "dealrec"}}
POOLS = ["cpu", "gpu"]


def filled(value, variables):
    """The template with Prefect's placeholders replaced, as its worker does."""
    if isinstance(value, dict):
        return {name: filled(inner, variables) for name, inner in value.items()}
    if isinstance(value, list):
        return [filled(inner, variables) for inner in value]
    if not isinstance(value, str):
        return value
    whole = re.fullmatch(r"\{\{ (\w+) \}\}", value)
    if whole:
        return variables[whole[1]]
    return re.sub(r"\{\{ (\w+) \}\}", lambda found: str(variables[found[1]]), value)


@pytest.mark.parametrize("pool", POOLS)
def test_the_job_of_a_pool_is_a_valid_kubernetes_job(pool):
    template = json.loads((FOLDER / f"job-{pool}.json").read_text("utf-8"))
    variables = {**FILLED, "finished_job_ttl": 60, "command": ["prefect"], "env": [{"name": "A", "value": "b"}]}
    job = filled(template["job_configuration"]["job_manifest"], variables)
    kubernetes_validate.validate(job, "1.30", strict=True)
    limits = job["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert ("nvidia.com/gpu" in limits) == (pool == "gpu")


@pytest.mark.parametrize("pool", POOLS)
def test_every_placeholder_of_a_template_is_a_variable_of_it(pool):
    text = (FOLDER / f"job-{pool}.json").read_text("utf-8")
    used = set(re.findall(r"\{\{ (\w+) \}\}", text))
    assert used == set(json.loads(text)["variables"]["properties"])


@pytest.mark.parametrize("pool", POOLS)
def test_the_worker_of_a_pool_reads_its_template(pool):
    values = yaml.safe_load((FOLDER / f"worker-{pool}.yaml").read_text("utf-8"))["worker"]["config"]
    assert values["workPool"] == pool
    assert values["baseJobTemplate"]["existingConfigMapName"] == f"dealrec-job-{pool}"
    assert values["limit"] == (1 if pool == "gpu" else 4)
