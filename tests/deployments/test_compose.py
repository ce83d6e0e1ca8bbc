"""docker/compose.yaml: valid, every variable and name it refers to exists, nothing is open to strangers."""

import configparser
import itertools
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from dealrec_core.settings import Config

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docker" / "compose.yaml").read_text("utf-8")
COMPOSE = yaml.safe_load(TEXT)
SERVICES = COMPOSE["services"]
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text("utf-8")
PAGE_OF_SECURITY = (ROOT / "docs" / "security.md").read_text("utf-8")
WIDE = {"COLUMNS": "250", "TERMINAL_WIDTH": "250"}


def test_the_file_follows_the_compose_specification():
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run([*command, str(ROOT / "docker" / "compose.yaml")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_every_variable_without_a_default_is_named_in_the_operations_page():
    required = set(re.findall(r"\$\{([A-Z0-9_]+):\?", TEXT))
    page = (ROOT / "docs" / "operations.md").read_text("utf-8")
    assert {name for name in required if name not in page} == set()
    logins = {"POSTGRES_PASSWORD", "PREFECT_PASSWORD", "MLFLOW_PASSWORD", "MLFLOW_PAGE_KEY"}
    assert required == logins | {"S3_ACCESS_KEY", "S3_SECRET_KEY", "WEBHOOK_SECRET", "WEBHOOK_KEY"}
    assert not re.search(r"\$\{[A-Z0-9_]+\}", TEXT), "a variable with neither a default nor a word when it is missing"


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_waits_for_services_that_exist_and_can_say_so(service):
    for name, wanted in SERVICES[service].get("depends_on", {}).items():
        condition = wanted["condition"]
        assert condition != "service_healthy" or "healthcheck" in SERVICES[name]
        assert condition != "service_completed_successfully" or SERVICES[name]["restart"] == "no"


def test_every_volume_is_declared_and_every_mounted_file_exists():
    mounts = [mount.split(":")[0] for service in SERVICES.values() for mount in service.get("volumes", [])]
    declared = set(COMPOSE["volumes"])
    assert {mount for mount in mounts if not mount.startswith(".")} == declared
    assert all((ROOT / "docker" / mount).exists() for mount in mounts if mount.endswith(".sql"))


def test_every_host_in_an_address_is_a_service():
    hosts = set(re.findall(r"(?://|@)([a-z0-9]+):\d+", TEXT)) - {"127"}
    assert hosts <= set(SERVICES)


def test_every_dealrec_variable_is_a_setting_or_known_to_the_program():
    names = set(re.findall(r"^\s+(DEALREC_[A-Z0-9_]+):", TEXT, re.MULTILINE))
    settings = {name for name in names if "__" in name}
    for name in settings:
        section, field = name.removeprefix("DEALREC_").lower().split("__")
        assert field in Config.model_fields[section].annotation.model_fields
    program = "".join(path.read_text("utf-8") for path in (ROOT / "flows").glob("*.py"))
    assert all(name in program for name in names - settings)


def helps() -> list[tuple[str, ...]]:
    """Each command of ours up to its first option, once."""
    commands = [service["command"] for service in SERVICES.values() if "command" in service]
    words = [tuple(itertools.takewhile(lambda word: not word.startswith("-"), command)) for command in commands]
    return sorted({each for each in words if each[0] in ("dealrec", "mlflow", "prefect")})


@pytest.mark.parametrize("command", helps(), ids=" ".join)
def test_every_command_is_a_program_of_the_image_and_knows_its_options(command):
    program, *rest = command
    installed = Path(sys.executable).with_name(program)
    shown = subprocess.run([installed, *rest, "--help"], capture_output=True, text=True, env={**os.environ, **WIDE})
    assert shown.returncode == 0, shown.stderr
    for service in SERVICES.values():
        given = service.get("command", [])
        if tuple(given[: len(command)]) == command:
            options = [word.split("=")[0] for word in given if word.startswith("--")]
            assert [option for option in options if option not in shown.stdout] == []


def test_what_needs_a_gpu_is_in_the_profile_gpu_and_every_pool_has_a_worker_with_and_without_one():
    gpus = {name for name, each in SERVICES.items() if "deploy" in each}
    assert gpus == {name for name, each in SERVICES.items() if each.get("profiles") == ["gpu"]}
    pools = {
        name: each["command"][each["command"].index("--pool") + 1]
        for name, each in SERVICES.items()
        if "--pool" in each.get("command", [])
    }
    for profile in ("gpu", "cpu-only"):
        running = [name for name in pools if SERVICES[name].get("profiles", [profile]) == [profile]]
        assert sorted(pools[name] for name in running) == ["cpu", "gpu"]


def test_only_pages_are_published_and_only_on_this_machine():
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert ports == ["127.0.0.1:4200:4200", "127.0.0.1:5000:5000"]


def test_both_servers_ask_for_a_password_and_everything_else_has_it():
    prefect, mlflow = (SERVICES[name]["environment"] for name in ("prefect", "mlflow"))
    assert (
        prefect["PREFECT_SERVER_API_AUTH_STRING"] == COMPOSE["x-application"]["environment"]["PREFECT_API_AUTH_STRING"]
    )
    assert prefect["PREFECT_SERVER_CSRF_PROTECTION_ENABLED"] == "true"
    (port,) = SERVICES["prefect"]["ports"]
    assert prefect["PREFECT_SERVER_CORS_ALLOWED_ORIGINS"] == f"http://{port.removesuffix(':4200')}"
    assert "--app-name=basic-auth" in SERVICES["mlflow"]["command"]
    assert mlflow["MLFLOW_AUTH_ADMIN_PASSWORD"] == mlflow["MLFLOW_TRACKING_PASSWORD"]
    assert (ROOT / mlflow["MLFLOW_AUTH_CONFIG_PATH"].removeprefix("/app/")).is_file()


def test_no_command_line_holds_a_secret():
    assert not [word for each in SERVICES.values() for word in each.get("command", []) if "${" in word]


@pytest.mark.parametrize("service", SERVICES)
def test_no_container_changes_its_root_gains_a_right_or_eats_the_machine(service):
    options = SERVICES[service]
    assert options["read_only"] is True
    assert options["cap_drop"] == ["ALL"]
    assert options["security_opt"] == ["no-new-privileges:true"]
    assert options["pids_limit"] <= 4096
    assert re.fullmatch(r"2g|\$\{WORKER_MEMORY:-16g\}", options["mem_limit"])
    assert not {"cap_add", "privileged", "network_mode", "pid", "ipc", "devices", "userns_mode"} & options.keys()
    mounts = options.get("volumes", [])
    assert not [mount for mount in mounts if mount.startswith((".", "/")) and not mount.endswith(":ro")]
    writable = {mount.split(":")[0] for mount in options["tmpfs"]} | {mount.split(":")[1] for mount in mounts}
    assert "/tmp" in writable
    assert "build" not in options or "/home/dealrec" in writable
    page = options.get("environment", {}).get("PREFECT_SERVER_UI_STATIC_DIRECTORY")
    assert (page == "/home/dealrec/ui") == (service == "prefect")


def test_an_image_has_a_release_as_its_tag_and_can_be_named_by_its_digest():
    images = dict(re.findall(r"image: \$\{(\w+_IMAGE):-(.+)\}", TEXT)) | dict(
        re.findall(r"ARG (\w+_IMAGE)=(.+)", DOCKERFILE)
    )
    assert len(images) == 3
    assert all(re.search(r":.*\d+[.-]\d+", image) for image in images.values())
    assert [name for name in images if f"| `{name}` |" not in PAGE_OF_SECURITY] == []
    assert {service["image"] for service in SERVICES.values() if "build" not in service} == {
        f"${{{name}:-{image}}}" for name, image in images.items() if name != "BASE_IMAGE"
    }


def test_everything_in_the_image_is_compared_with_the_locked_hashes():
    installs = re.findall(r"(?:uv )?pip install .*", DOCKERFILE)
    locked = (
        "--no-deps --require-hashes",
        "--no-deps ${TORCH_HASH:+--require-hashes}",
        "-c constraints.lock --build-constraints constraints.lock",
    )
    assert len(installs) == 3
    assert all(option in install for option, install in zip(locked, installs, strict=True))


def test_a_new_login_may_do_nothing_and_no_password_is_shipped():
    shipped = configparser.ConfigParser()
    shipped.read(ROOT / "deployments" / "mlflow-auth.ini")
    assert shipped["mlflow"]["default_permission"] == "NO_PERMISSIONS"
    assert "admin_password" not in shipped["mlflow"]
    assert shipped["mlflow"]["admin_username"] == COMPOSE["x-application"]["environment"]["MLFLOW_TRACKING_USERNAME"]


def test_every_copied_path_of_the_image_exists():
    copied = [word for line in re.findall(r"^COPY (.*)$", DOCKERFILE, re.MULTILINE) for word in line.split()[:-1]]
    assert copied
    assert all((ROOT / path).exists() for path in copied)
