"""Who gets into what `make up` starts: without a login nobody, from another page nobody, from a file nobody."""

import asyncio
import re
import stat
from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil
import pytest
import websockets
from mlflow.server import app as mlflow_app
from mlflow.server import get_app_client
from mlflow.server.auth import routes as auth_routes

pytestmark = [pytest.mark.services, pytest.mark.timeout(900)]
FOREIGN = {"Origin": "http://evil.example"}
OPEN_PREFECT = {("GET", "/api/health"), ("GET", "/api/ready")}
OPEN_MLFLOW = {
    ("GET", "/health"),
    ("GET", "/api/3.0/mlflow/server-info"),
    ("GET", "/ajax-api/3.0/mlflow/server-info"),
}
PATIENCE_S = 120
"""On a busy machine Prefect was seen to answer nothing for 60 s: a lock of SQLite lasts that long."""
STATIC = {("GET", "/static-files/{path}")}
"""The files of MLflow's page, which hold no data. Prefect's page, its settings and the description of its API are open, too."""


def walk(address: str, routes: set[tuple[str, str]]) -> dict[int, set[tuple[str, str]]]:
    """The routes by the status of the answer that a stranger gets."""
    answers: dict[int, set[tuple[str, str]]] = {}
    with httpx.Client(base_url=address, timeout=PATIENCE_S) as client, ThreadPoolExecutor(4) as pool:

        def ask(route: tuple[str, str]) -> int:
            method, path = route
            body = {} if method in ("POST", "PUT", "PATCH") else None
            return client.request(
                method, re.sub(r"\{[^}]*\}|<[^>]*>", "1", path), json=body, headers=FOREIGN
            ).status_code

        for route, status in zip(routes, pool.map(ask, routes), strict=True):
            answers.setdefault(status, set()).add(route)
    return answers


def test_prefect_answers_no_route_but_health_without_a_login(site):
    described = httpx.get(f"{site.prefect}/openapi.json", timeout=60).json()["paths"]
    routes = {(method.upper(), f"/api{path}") for path, methods in described.items() for method in methods}
    assert len(routes) > 150
    assert routes >= OPEN_PREFECT
    answers = walk(site.prefect, routes)
    assert answers.keys() == {200, 401, 403}
    assert answers[200] == OPEN_PREFECT


def test_a_login_alone_changes_nothing_without_the_token_against_forged_requests(site):
    logged_in = httpx.Client(base_url=f"{site.prefect}/api", auth=site.client.auth, timeout=PATIENCE_S)
    assert logged_in.get("/work_pools/cpu").status_code == 200
    assert logged_in.post("/flow_runs/count", json={}).status_code == 403
    forged = {**FOREIGN, "Prefect-Csrf-Token": "a guess", "Prefect-Csrf-Client": "evil"}
    refused = logged_in.post("/flow_runs/count", json={}, headers=forged)
    assert (refused.status_code, refused.json().keys()) == (403, {"detail"})  # holds no data, for it names every origin
    assert site.client.post("/flow_runs/count", json={}).status_code == 200


def test_mlflow_answers_no_route_but_health_and_server_info_without_a_login(site):
    paths = {
        (method, rule.rule) for rule in mlflow_app.url_map.iter_rules() for method in rule.methods - {"OPTIONS", "HEAD"}
    }
    routes = {(method, re.sub(r"<[^>]*>", "{path}", path)) for method, path in paths}
    users = {path for path in vars(auth_routes).values() if isinstance(path, str) and path.startswith("/")}
    others = {("GET", path) for path in ("/docs", "/redoc", "/openapi.json", "/version", "/metrics")}
    others |= {(method, path) for method in ("GET", "POST", "PATCH", "DELETE") for path in users}
    assert len(routes) > 300
    assert routes >= OPEN_MLFLOW | STATIC
    answers = walk(site.mlflow, routes | others)
    opened = {route for status, group in answers.items() if status not in (401, 403) for route in group}
    assert opened == OPEN_MLFLOW | STATIC


def test_a_new_user_of_mlflow_may_do_nothing(site, monkeypatch):
    administrator = {name: site.login[f"MLFLOW_TRACKING_{name}"] for name in ("USERNAME", "PASSWORD")}
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", administrator["USERNAME"])
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", administrator["PASSWORD"])
    get_app_client("basic-auth", site.mlflow).create_user("new", "a long password")
    names = {"name": "hidden"}
    with httpx.Client(
        base_url=f"{site.mlflow}/api/2.0/mlflow", auth=tuple(administrator.values()), timeout=PATIENCE_S
    ) as client:
        client.post("/registered-models/create", json=names).raise_for_status()
        experiment = client.post("/experiments/create", json=names).raise_for_status().json()["experiment_id"]
    with httpx.Client(
        base_url=f"{site.mlflow}/api/2.0/mlflow", auth=("new", "a long password"), timeout=PATIENCE_S
    ) as client:
        answers = [
            client.get("/registered-models/get", params=names),
            client.get("/experiments/get", params={"experiment_id": experiment}),
            client.post("/registered-models/alias", json={**names, "alias": "champion", "version": "1"}),
            client.post("/runs/create", json={"experiment_id": experiment}),
        ]
        assert [answer.status_code for answer in answers] == [403] * 4
        assert not client.get("/registered-models/search").json().get("registered_models")
        assert not client.post("/experiments/search", json={"max_results": 100}).json().get("experiments")


def test_a_foreign_page_is_told_nothing(site):
    asked = {**FOREIGN, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    for address in (f"{site.prefect}/api/flow_runs/filter", f"{site.mlflow}/api/2.0/mlflow/experiments/search"):
        for answer in (
            httpx.options(address, headers=asked, timeout=PATIENCE_S),
            httpx.post(address, json={}, headers=FOREIGN, timeout=PATIENCE_S),
        ):
            assert answer.status_code in (400, 401, 403)
            assert "access-control-allow-origin" not in answer.headers
    health = httpx.get(f"{site.prefect}/api/health", headers=FOREIGN, timeout=PATIENCE_S)
    assert "access-control-allow-origin" not in health.headers
    own = httpx.get(f"{site.prefect}/api/health", headers={"Origin": site.prefect}, timeout=PATIENCE_S)
    assert own.headers["access-control-allow-origin"] == site.prefect


@pytest.mark.parametrize(
    "path",
    ["events/in", "events/out", "logs/out", "task_runs/subscriptions/scheduled", "work_pools/cpu/workers/connect"],
)
@pytest.mark.parametrize("subprotocol", [None, "prefect"])
def test_no_socket_of_prefect_talks_without_a_login(site, path, subprotocol):
    async def talk() -> None:
        address = f"{site.prefect.replace('http', 'ws')}/api/{path}"
        subprotocols = [subprotocol] if subprotocol else None
        async with websockets.connect(address, subprotocols=subprotocols, open_timeout=PATIENCE_S) as socket:
            await socket.send('{"type": "auth", "token": "a guess"}')
            await socket.recv()

    with pytest.raises((websockets.InvalidStatus, websockets.ConnectionClosed)):
        asyncio.run(talk())


def test_the_bridge_passes_nothing_on_without_a_signature(site):
    change = {"data": {"name": "recommender", "alias": "champion"}}
    assert httpx.post(site.bridge, json=change, timeout=PATIENCE_S).status_code == 401


def test_only_this_user_reads_the_secrets_and_no_command_line_or_log_shows_one(site):
    secrets = site.folder / "secrets"
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in secrets.iterdir()} == {0o600}
    for folder in ("logs", "prefect"):
        assert stat.S_IMODE((site.folder / folder).stat().st_mode) == 0o700
    below = psutil.Process(site.process.pid).children(recursive=True)
    commands = "\n".join(" ".join(process.cmdline()) for process in below).encode()
    assert b"worker start" in commands
    assert len(site.secrets()) == 7
    assert [name for name, forms in site.secrets().items() if any(form in commands for form in forms)] == []
    assert site.leaks() == []
