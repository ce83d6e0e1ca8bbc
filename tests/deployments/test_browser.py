"""A person with a browser: starts a night from the form, looks at what it did, finds its model in MLflow.

With DEALREC_SCREENSHOTS=docs/images the pictures of the documentation are taken anew.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect, sync_playwright

pytestmark = [pytest.mark.services, pytest.mark.timeout(600)]
PATIENCE_MS = 60_000
expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture(scope="module")
def page(site) -> Iterator[Page]:
    """A page that is logged in to both servers."""
    browser = os.environ.get("DEALREC_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        message = "no Chromium on this machine; install it or set DEALREC_CHROMIUM to its path"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        login = {"username": site.login["MLFLOW_TRACKING_USERNAME"], "password": site.login["MLFLOW_TRACKING_PASSWORD"]}
        opened = chromium.new_page(
            viewport={"width": 1200, "height": 800}, http_credentials={**login, "origin": site.mlflow}
        )
        opened.set_default_timeout(PATIENCE_MS)
        opened.goto(site.prefect)
        opened.wait_for_url("**/login*")
        opened.locator("input[type=password]").fill(site.login["PREFECT_API_AUTH_STRING"])
        opened.get_by_role("button", name="Login").click()
        opened.wait_for_url(lambda address: "/login" not in address)
        yield opened
        chromium.close()


@pytest.fixture
def picture(page: Page, tmp_path: Path):
    folder = Path(os.environ.get("DEALREC_SCREENSHOTS", tmp_path))

    def take(name: str) -> None:
        page.wait_for_timeout(1500)
        page.screenshot(path=folder / f"{name}.png")

    return take


def field(page: Page, title: str):
    """The input below a title of Prefect's form."""
    label = page.locator(".p-label", has=page.get_by_text(title, exact=False)).last
    return label.locator("input, textarea").first


def shown_report(page: Page) -> str:
    """The page that MLflow shows within its own, in a sandboxed frame."""
    for _ in range(PATIENCE_MS // 500):
        shown = [frame.content() for frame in page.frames if frame.url.startswith("blob:")]
        if shown and "</section>" in shown[0]:
            return shown[0]
        page.wait_for_timeout(500)
    return ""


def test_a_night_is_started_with_changed_parameters_and_found_again(site, page, picture):
    page.goto(f"{site.prefect}/deployments")
    page.get_by_text("nightly", exact=True).first.click()
    page.wait_for_url("**/deployments/deployment/*")
    page.goto(page.url.split("?")[0] + "/run")
    field(page, "Share of the samples").fill("0.2")
    field(page, "Settings file").fill("deployments/examples/demo.toml")
    picture("form")
    with page.expect_response("**/create_flow_run") as answer:
        page.get_by_role("button", name="Submit").click()
    assert answer.value.ok, answer.value.text()
    run_id = answer.value.json()["id"]

    run = site.wait(run_id, {"COMPLETED", "FAILED", "CRASHED"})
    assert run["state"]["type"] == "COMPLETED", run["state"]
    assert run["parameters"]["request"]["change"] == {"coreset_ratio": 0.2}
    page.goto(f"{site.prefect}/runs/flow-run/{run_id}")
    expect(page.get_by_text("Completed").first).to_be_visible()
    picture("run")

    artifacts = {each["key"]: each for each in site.api("/artifacts/latest/filter", {"limit": 200})}
    assert {"night", "ingest", "coreset", "fine-tune", "evaluation", "promotion", "report"} <= artifacts.keys()
    page.goto(f"{site.prefect}/artifacts/artifact/{artifacts['evaluation']['latest_id']}")
    expect(page.get_by_text("held-out users, full ranking").first).to_be_visible()
    picture("artifact")

    page.goto(f"{site.prefect}/runs/flow-run/{run_id}")
    page.get_by_text("Artifacts", exact=True).first.click()
    page.locator("a[href*='/artifacts/artifact/']", has_text="night").first.click()
    page.wait_for_url("**/artifacts/artifact/*")
    link = page.get_by_role("link", name="Report", exact=True).first
    address = link.get_attribute("href")
    assert address.startswith(site.mlflow)
    page.goto(address)
    page.locator("iframe.mlflow-html-iframe").wait_for(state="attached")
    assert "What came in" in shown_report(page)
    picture("report")

    page.goto(f"{site.mlflow}/#/models/recommender")
    expect(page.get_by_text("Version 1").first).to_be_visible()
    expect(page.get_by_text("candidate").first).to_be_visible()
    picture("model")


def test_a_value_out_of_bounds_is_refused_before_a_run_exists(site):
    deployment = site.api("/deployments/name/nightly/nightly")
    before = site.api("/flow_runs/count", {})
    with pytest.raises(Exception, match="409|422"):
        site.api(
            f"/deployments/{deployment['id']}/create_flow_run",
            {"parameters": {"request": {"change": {"coreset_ratio": 3}}}, "state": {"type": "SCHEDULED"}},
        )
    assert site.api("/flow_runs/count", {}) == before


def test_the_reason_of_a_failure_is_in_the_alarm_and_one_click_from_the_list_of_runs(site, page, picture):
    nowhere = f"{site.folder}/nowhere"
    mistakes = {
        "coreset.ratoi=0.1": "unknown setting 'coreset.ratoi'; did you mean 'ratio'?",
        f"sources.root={nowhere}": f"no folder or bucket '{nowhere}'; set sources.root",
    }
    demo = {"config": "deployments/examples/demo.toml"}
    runs = {line: site.start("nightly", {"request": {**demo, "overrides": [line]}}) for line in mistakes}
    for line, reason in mistakes.items():
        run = site.wait(runs[line]["id"], {"FAILED", "COMPLETED", "CRASHED"})
        assert run["state"]["type"] == "FAILED"
        assert reason in site.heard("night failed", run_id=run["id"])["message"]
        page.goto(f"{site.prefect}/runs")
        page.locator(f"a[href*='{run['id']}']").first.click()  # both are named by their day
        expect(page.get_by_text(reason).first).to_be_visible()
        picture("failure")
    assert site.leaks() == []  # nor does a night that failed write a secret anywhere
