"""A person with a browser: starts a night from the form, looks at what it did, finds its model in MLflow.

With DEALREC_SCREENSHOTS=docs/images the pictures of the documentation are taken anew.
"""

import io
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
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


def save(page: Page, name: str, *, width: int | None = None) -> None:
    """Takes a picture of the page, or of its left `width` pixels, for the documentation, with 192 colours so that it is small."""
    if folder := os.environ.get("DEALREC_SCREENSHOTS"):
        page.wait_for_timeout(2500)
        shot = Image.open(io.BytesIO(page.screenshot()))
        shot = shot.crop((0, 0, width or shot.width, shot.height))
        shot.convert("RGB").quantize(192, dither=Image.Dither.NONE).save(Path(folder) / f"{name}.png", optimize=True)


def field(page: Page, title: str):
    """The input below a title of Prefect's form."""
    label = page.locator(".p-label", has=page.get_by_text(title, exact=False)).last
    return label.locator("input, textarea").first


def submitted(page: Page) -> dict:
    """The run that the form starts; a person presses the button again while Prefect's database is locked (503)."""
    for _ in range(5):
        with page.expect_response("**/create_flow_run") as answer:
            page.get_by_role("button", name="Submit").click()
        if answer.value.status != 503:
            break
        page.wait_for_timeout(2000)
    assert answer.value.ok, answer.value.text()
    return answer.value.json()


def shown_report(page: Page) -> str:
    """The page that MLflow shows within its own, in a sandboxed frame."""
    for _ in range(PATIENCE_MS // 500):
        shown = [frame.content() for frame in page.frames if frame.url.startswith("blob:")]
        if shown and "</section>" in shown[0]:
            return shown[0]
        page.wait_for_timeout(500)
    return ""


def test_a_night_is_started_with_changed_parameters_and_found_again(site, page):
    page.goto(f"{site.prefect}/deployments?deployments.tags.name=by-hand")
    first = page.locator("a[href*='/deployments/deployment/']").first
    expect(first).to_have_text("nightly")
    first.click()
    page.wait_for_url("**/deployments/deployment/*")
    page.goto(page.url.split("?")[0] + "/run")
    expect(page.get_by_text("Now champion. Setting fine_tune.start").first).to_be_visible()
    field(page, "Share of the samples").fill("0.2")
    field(page, "Settings file").fill("deployments/examples/demo.toml")
    save(page, "form")
    run_id = submitted(page)["id"]

    run = site.wait(run_id, {"COMPLETED", "FAILED", "CRASHED"})
    assert run["state"]["type"] == "COMPLETED", run["state"]
    assert run["parameters"]["request"]["change"] == {"coreset_ratio": 0.2}
    word = run["state"]["name"]
    assert word in {"Promoted", "Rejected", "Unchanged"}
    assert "ndcg@20" in run["state"]["message"]
    page.goto(f"{site.prefect}/runs?hide-subflows=true")
    expect(page.get_by_text(word, exact=True).first).to_be_visible()
    page.get_by_text("nightly", exact=True).last.scroll_into_view_if_needed()
    save(page, "runs")

    artifacts = {each["key"]: each for each in site.api("/artifacts/latest/filter", {"limit": 200})}
    assert {"night", "ingest", "coreset", "fine-tune", "evaluation", "promotion"} <= artifacts.keys()
    assert not [key for key in artifacts if "progress" in key]
    page.goto(f"{site.prefect}/artifacts/artifact/{artifacts['evaluation']['latest_id']}")
    expect(page.get_by_text("held-out users, full ranking").first).to_be_visible()
    summary = page.get_by_role(
        "link", name="The night's summary"
    )  # on every page of a stage; Prefect opens it in another tab
    page.goto(summary.evaluate("link => link.href"))
    page.locator("a[href*='/artifacts/artifact/']").first.click()
    page.wait_for_url("**/artifacts/artifact/*")
    link = page.get_by_role("link", name="Report", exact=True).first
    address = link.get_attribute("href")
    assert address.startswith(site.mlflow)
    save(page, "artifact")
    page.goto(address)
    page.locator("iframe.mlflow-html-iframe").wait_for(state="attached")
    assert "What came in" in shown_report(page)

    page.goto(f"{site.mlflow}/#/models/recommender")
    expect(page.get_by_text("Version 1").first).to_be_visible()
    expect(page.get_by_text("candidate").first).to_be_visible()
    (shown,) = [line for line in (site.folder / "up.log").read_text().splitlines() if "viewStateShareKey" in line]
    page.set_viewport_size({"width": 1800, "height": 800})  # the table draws no column that is out of sight
    page.goto(shown.split()[1])
    for column in ("verdict", "champion", "recall"):
        expect(page.get_by_role("columnheader", name=column, exact=True).first).to_be_attached()
    expect(page.get_by_text(word.lower(), exact=True).first).to_be_attached()
    save(page, "mlflow", width=1340)  # without MLflow's assistant on the right


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 390])
def test_the_report_is_right_for_every_reader(site, page, scheme, width):
    path = max((site.folder / "lake").glob("nights/*/report.html"))
    shown = page.context.browser.new_page(viewport={"width": width, "height": 844}, color_scheme=scheme)
    try:
        shown.set_content(path.read_text("utf-8"))
        save(shown, f"report-{width}-{scheme}")
        shown.evaluate("document.querySelectorAll('details').forEach(folded => folded.open = true)")
        assert shown.evaluate("document.documentElement.scrollWidth") == width  # nothing to scroll sideways
        assert Axe().run(shown).response["violations"] == []
        if width == 1200:
            shown.keyboard.press("Tab")
            assert shown.evaluate("document.activeElement.tagName") == "SUMMARY"
    finally:
        shown.close()


def test_a_value_out_of_bounds_is_refused_before_a_run_exists(site):
    deployment = site.api("/deployments/name/nightly/nightly")
    before = site.api("/flow_runs/count", {})
    with pytest.raises(Exception, match="409|422"):
        site.api(
            f"/deployments/{deployment['id']}/create_flow_run",
            {"parameters": {"request": {"change": {"coreset_ratio": 3}}}, "state": {"type": "SCHEDULED"}},
        )
    assert site.api("/flow_runs/count", {}) == before


def test_the_reason_of_a_failure_is_in_the_alarm_and_one_click_from_the_list_of_runs(site, page):
    nowhere = f"{site.folder}/nowhere"
    reason = f"no folder or bucket '{nowhere}'; set sources.root"
    request = {"config": "deployments/examples/demo.toml", "overrides": [f"sources.root={nowhere}"]}
    started = site.start("nightly", {"request": request})
    run = site.wait(started["id"], {"FAILED", "COMPLETED", "CRASHED"})
    assert run["state"]["type"] == "FAILED"
    assert reason in site.heard("night failed", run_id=run["id"])["message"]
    page.goto(f"{site.prefect}/runs")
    page.locator(f"a[href*='{run['id']}']").first.click()
    expect(page.get_by_text(reason).first).to_be_visible()
    assert site.leaks() == []  # nor does a night that failed write a secret anywhere
