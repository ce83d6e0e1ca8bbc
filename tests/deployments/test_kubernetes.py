"""Values for Prefect's charts and the job templates of the work pools."""

import json
import re
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import yaml

from dealrec_core.settings import Config

ROOT = Path(__file__).resolve().parents[2]
FOLDER, CHARTS = ROOT / "deployments" / "kubernetes", ROOT / "tests" / "deployments" / "charts"
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


def strangers(values, schema, where=""):
    """Keys that the chart does not know; its schema lets them pass at the top."""
    known = schema.get("properties")
    if not isinstance(values, dict) or not known:
        return []
    found = [f"{where}{name}" for name in values if name not in known]
    return found + [each for name in values.keys() & known for each in strangers(values[name], known[name], f"{name}.")]


@pytest.mark.parametrize("name", ["server", "worker-cpu", "worker-gpu"])
def test_values_follow_the_schema_of_the_chart(name):
    """Schemas of Prefect's charts at commit 75b0c27 of PrefectHQ/prefect-helm (Apache-2.0), without their descriptions."""
    chart = CHARTS / f"prefect-{name.split('-')[0]}.schema.json"
    schema, values = json.loads(chart.read_text("utf-8")), yaml.safe_load((FOLDER / f"{name}.yaml").read_text("utf-8"))
    jsonschema.Draft7Validator(schema).validate(values)
    assert strangers(values, schema) == []
    assert strangers({"sercet": {}, **values}, schema) == ["sercet"]


def is_confined(pod, container):
    """Whether a container is no root, cannot become it, has no capability and cannot change its root file system."""
    return (
        pod["runAsNonRoot"] is True
        and pod["runAsUser"] >= 1000
        and pod["seccompProfile"] == {"type": "RuntimeDefault"}
        and container["allowPrivilegeEscalation"] is False
        and container["readOnlyRootFilesystem"] is True
        and container["capabilities"] == {"drop": ["ALL"]}
    )


@pytest.mark.parametrize("name", ["server", "worker-cpu", "worker-gpu"])
def test_server_and_workers_are_confined(name):
    values = yaml.safe_load((FOLDER / f"{name}.yaml").read_text("utf-8"))[name.split("-")[0]]
    assert is_confined(values["podSecurityContext"], values["containerSecurityContext"])
    assert values["resources"]["limits"]["memory"]


@pytest.mark.parametrize("pool", POOLS)
def test_a_job_is_confined_and_may_write_where_the_program_does(pool):
    template = json.loads((FOLDER / f"job-{pool}.json").read_text("utf-8"))
    pod = template["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert is_confined(pod["securityContext"], container["securityContext"])
    assert pod["automountServiceAccountToken"] is False
    assert container["resources"]["limits"].keys() >= {"memory", "ephemeral-storage"}
    assert [each["mountPath"] for each in container["volumeMounts"]] == ["/tmp", "/home/dealrec", "/app/var"]
    assert {each["name"] for each in container["volumeMounts"]} == {each["name"] for each in pod["volumes"]}


@pytest.mark.parametrize("name", ["server", "worker-cpu", "worker-gpu"])
def test_server_and_workers_take_the_login_from_one_secret(name):
    values = yaml.safe_load((FOLDER / f"{name}.yaml").read_text("utf-8"))
    part = values["server"] if name == "server" else values["worker"]["selfHostedServerApiConfig"]
    assert part["basicAuth"] == {
        "enabled": True,
        "existingSecret": "dealrec-prefect",
    }  # no authString: it has a default


def test_the_secret_of_the_jobs_holds_settings_and_variables_that_are_read_somewhere():
    lines = (FOLDER / "dealrec.env.example").read_text("utf-8").splitlines()
    names = {line.split("=")[0] for line in lines if line and not line.startswith("#")}
    for name in names:
        if name.startswith("DEALREC_"):
            section, field = name.removeprefix("DEALREC_").lower().split("__")
            assert field in Config.model_fields[section].annotation.model_fields
    compose = (ROOT / "docker" / "compose.yaml").read_text("utf-8")
    assert {name for name in names if f"{name}:" not in compose} == {"DEALREC_SOURCES__ROOT"}  # there a mounted folder


def test_every_secret_configmap_and_address_is_made_by_a_command_of_the_operations_page():
    page = (ROOT / "docs" / "operations.md").read_text("utf-8")
    files = {path.name: path.read_text("utf-8") for path in FOLDER.iterdir()}
    server = yaml.safe_load(files["server.yaml"])
    secrets = {server["secret"]["name"], server["server"]["basicAuth"]["existingSecret"]}
    for pool in POOLS:
        manifest = json.loads(files[f"job-{pool}.json"])["job_configuration"]["job_manifest"]
        (container,) = manifest["spec"]["template"]["spec"]["containers"]
        secrets |= {each["secretRef"]["name"] for each in container["envFrom"]}
        worker = yaml.safe_load(files[f"worker-{pool}.yaml"])["worker"]
        assert f"kubectl create configmap {worker['config']['baseJobTemplate']['existingConfigMapName']} " in page
        release = re.match(r"http://([a-z-]+)\.", worker["selfHostedServerApiConfig"]["apiUrl"])[1]
        assert f"helm install {release} prefect/prefect-server" in page
    assert all(f"kubectl create secret generic {name} " in page for name in secrets)
