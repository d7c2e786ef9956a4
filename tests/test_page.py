"""The page: what it says is what the report's code says, in a real browser, without a network."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import test_serving_report as made_up
from conftest import ROOT, Project
from made_blocks import in_passes, params_of

from bench.report.charts.write import CHARTS, make_charts
from bench.report.columns import proof_text
from bench.report.document import plain
from bench.report.page.write import libraries, render_page
from bench.report.shown import Context, shown_of
from bench.report.words import milliseconds, most_requests, per_second
from bench.runs.recorded_runs import RecordedRun
from bench.summary.serving import Tables, budgets_around, build_serving, curves_of, read_served

RUN = "cpu-2-minilm"
ROWS = {"torch_cpu_fp32": 20.0, "ort_cpu_int8_longest": 400.0, "openvino_cpu_int8_longest": 410.0}
"""The rows that are served in these tests, and the requests a second that they hold within the budget."""
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
DRIVER = shutil.which("chromedriver")


class Report:
    """A recorded run's rows with made-up loads: what the page is made of, and the page."""

    def __init__(self, folder: Path) -> None:
        run = in_passes(RecordedRun.read(ROOT / "runs" / RUN), ("torch_compile_cpu_fp32", 1))
        content = {**run.params, "baselines": {"cpu": "torch_cpu_fp32"}}
        content["serving"] = {**content["serving"], "variants": list(ROWS)}
        params = params_of(replace(run, params=content))
        for number, (name, rate) in enumerate(ROWS.items()):
            (folder / f"{name}.json").write_text(json.dumps(self._served(rate, number)), encoding="utf-8")
        self.table = run.table
        loads = read_served(ROWS, folder)
        tables = Tables(run.table, build_serving(params, run.table, loads, {}), curves_of(loads))
        self.serving, self.curves, self.context = tables.serving, tables.curves, run.context
        self.shown = shown_of(tables, self.context)
        [served] = [panel.served for panel in self.shown.findings.panels if panel.device == "cpu"]
        assert served is not None
        self.budgets = {budget.budget_ms: budget.rows for budget in served.budgets}
        self.charts = make_charts(self.shown, self.table, self.curves)
        self.html = self.render()
        self.path = folder / "report.html"
        self.path.write_text(self.html, encoding="utf-8")

    @staticmethod
    def _served(rate: float, number: int) -> dict[str, Any]:
        """Return trials at half of a rate, then around it, in turn."""
        spread = 0.01 if number else 0.02
        low, high, far = (0.5, 2.0, 8.0) if number == 2 else (0.2, 1.0, 4.0)
        made = made_up.report([rate] * 2, 600.0)
        trials = [made_up.point(rate / 2, made_up.BUDGET_MS * low)]
        for turn in range(10):
            share, late = ((1.0, high), (1.1, high * (far / high) ** 0.5))[turn % 2]
            sent = rate * share * (1 + spread * (turn % 3 - 1))
            trials.append(made_up.point(rate * share, made_up.BUDGET_MS * late) | {"sent_per_s": sent})
        trials.append(made_up.point(rate * 1.2, made_up.BUDGET_MS * far))
        numbered = [{**each, "number": place + 1} for place, each in enumerate(trials)]
        for turn, process in enumerate(made["processes"]):
            process.update(points=numbered[turn::2], peak_host_mib=200.0 + 300 * number)
        return made

    def render(self, context: Context | None = None) -> str:
        shown = replace(self.shown, context=context or self.context)
        return render_page(shown, self.curves, self.charts)

    def answer(self, budget_ms: float, most_mib: float | None = None, most_loss: float | None = None) -> str:
        """Return what the report's own code says for a budget, of the rows that fit the limits."""
        rows = self.budgets[budget_ms]
        if most_mib is not None:
            rows = [row for row in rows if row.memory_mib is not None and row.memory_mib <= most_mib]
        if most_loss is not None:
            rows = [row for row in rows if row.accuracy_loss is not None and row.accuracy_loss <= most_loss]
        ties = [row.variant for row in rows[1:] if row.variant not in rows[0].fewer]
        return plain(most_requests([(row.variant, row.requests_per_s) for row in rows], ties, budget_ms))


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    return Report(tmp_path_factory.mktemp("page"))


def test_the_page_is_small_complete_and_the_same_for_the_same_run(report: Report) -> None:
    assert len(report.html.encode()) < 2_000_000
    assert report.html == report.render()
    for row in report.table[report.table["p50_ms"].notna()]["variant"].unique():
        assert row in report.html
    own = report.html.replace(libraries(), "")
    assert len(own) < len(report.html)
    assert not re.search(r"(?:src|href)=\"(?!#)|url\(|import ", own), "something would be fetched"


def test_the_numbers_of_the_load_chart_stand_in_a_table_too(report: Report) -> None:
    first = report.curves["ort_cpu_int8_longest"][0]
    cells = ["ort_cpu_int8_longest", per_second(first.rate), milliseconds(first.p50_ms), milliseconds(first.p99_ms)]
    assert "".join(f"<td>{cell}</td>" for cell in cells) in report.html


def test_what_a_model_is_called_cannot_run_as_code(report: Report) -> None:
    name = "</script><script>alert(1)</script>"
    context = replace(report.context, provenance={**report.context.provenance, "model": name})
    html = report.render(context=context)
    assert name not in html
    assert "&lt;script&gt;alert(1)" in html


def test_proof_is_told_in_words() -> None:
    row = {"device": "cpu", "precision": "int8"}
    assert proof_text({**row, "proof": "DW"}) == "CPU, int8: ran on the device; weights of the type"
    assert proof_text({**row, "proof": "DWK"}).endswith("; kernels computed in the precision")
    assert proof_text({**row, "proof": "D--"}) == "CPU, int8: ran on the device"
    assert proof_text({**row, "proof": None}) == "nothing of it was proved"


def test_budgets_are_round_and_hold_the_configured_one() -> None:
    assert budgets_around(10) == [1, 1.5, 2, 3, 5, 7, 10, 15, 20, 30, 50]
    assert 8.5 in budgets_around(8.5)


def test_every_chart_is_a_specification_that_vega_lite_compiles(report: Report) -> None:
    import vl_convert

    data = json.loads(re.search(r'id="data">(.*?)</script>', report.html, re.S)[1])  # type: ignore[index]
    charts = data["cpu"]["charts"]
    assert set(charts) == set(CHARTS) - {"distribution", "lengths"}, "single runs and sentences are not recorded"
    for spec in (spec for specs in charts.values() for spec in specs):
        assert spec["description"]
        assert vl_convert.vegalite_to_vega(spec)["marks"]


def test_the_libraries_ask_for_nothing_and_end_no_script_element() -> None:
    assert "</script" not in libraries()


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Give a page in headless Chromium, for which no name resolves."""
    if not (CHROMIUM and DRIVER):
        pytest.skip("needs Chromium and its driver")
    from selenium import webdriver
    from selenium.webdriver.support.ui import WebDriverWait

    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for argument in ("--headless=new", "--no-sandbox", "--host-resolver-rules=MAP * ~NOTFOUND"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(str(DRIVER)))
    try:
        driver.get(path.as_uri())
        WebDriverWait(driver, 60).until(lambda each: each.find_elements("css selector", "body.drawn"))
        yield driver
    finally:
        driver.quit()


@pytest.fixture(scope="module")
def browser(report: Report) -> Iterator[Any]:
    """The report's page."""
    with opened(report.path) as driver:
        yield driver


def put(browser: Any, selector: str, value: str) -> None:
    """Give a control a value, as a user's hand does."""
    code = (
        "const c = document.querySelector(arguments[0]); c.value = arguments[1];"
        "c.dispatchEvent(new Event('input', {bubbles: true}))"
    )
    browser.execute_script(code, selector, value)


def text(browser: Any, selector: str) -> str:
    return str(browser.find_element("css selector", selector).text)


@pytest.mark.slow
def test_the_page_draws_every_chart_without_a_request_or_an_error(browser: Any, report: Report) -> None:
    drawn = browser.find_elements("css selector", ".chart svg")
    panels = sum(len(chart.panels) for chart in report.charts["cpu"].values())
    assert len(drawn) == len(browser.find_elements("css selector", ".chart")) == panels
    assert [line for line in browser.get_log("browser") if line["level"] == "SEVERE"] == []
    sent = (json.loads(entry["message"])["message"] for entry in browser.get_log("performance"))
    asked = {each["params"]["request"]["url"] for each in sent if each["method"] == "Network.requestWillBeSent"}
    assert {url for url in asked if not url.startswith("data:")} <= {report.path.as_uri()}


@pytest.mark.slow
def test_moving_the_budget_gives_what_the_report_says_for_it(browser: Any, report: Report) -> None:
    said = []
    for place, budget_ms in enumerate(budgets_around(made_up.BUDGET_MS)):
        put(browser, ".budget", str(place))
        assert text(browser, ".answer") == report.answer(budget_ms)
        assert text(browser, ".budget-text") == f"{budget_ms:g} ms"
        said.append(text(browser, ".answer").split(",")[0])
    assert len(set(said)) > 2, "the budget decides"


@pytest.mark.slow
def test_limits_on_memory_and_accuracy_change_the_answer_as_the_report_would(browser: Any, report: Report) -> None:
    put(browser, ".budget", "6")
    put(browser, ".memory", str(300 / 1024))
    assert text(browser, ".answer") == report.answer(10, most_mib=300) != report.answer(10)
    put(browser, ".memory", "")
    put(browser, ".loss", "0")
    assert text(browser, ".answer") == report.answer(10, most_loss=0.0)
    put(browser, ".loss", "")
    put(browser, ".price", "3.6")
    cells = [cell.text for cell in browser.find_elements("css selector", ".held tbody tr:first-child td")]
    rate = report.budgets[10][0].requests_per_s
    assert float(cells[-1]) == pytest.approx(1000 / rate, rel=0.01)
    put(browser, ".memory", "0")
    assert text(browser, ".answer") == "No row sustains a rate within 10 ms and these limits."
    for control in (".memory", ".price"):
        put(browser, control, "")


def shown(browser: Any) -> list[Any]:
    return [row for row in browser.find_elements("css selector", ".rows tbody tr") if row.is_displayed()]


@pytest.mark.slow
def test_filters_and_the_search_leave_the_rows_that_fit(browser: Any) -> None:
    everything = len(shown(browser))
    box = browser.find_element("css selector", 'input[name="runtime"][value="pytorch"]')
    box.click()
    assert 0 < len(shown(browser)) < everything
    assert all(row.get_attribute("data-runtime") != "pytorch" for row in shown(browser))
    put(browser, ".find", "int8_bf16")
    assert all("int8_bf16" in row.text for row in shown(browser))
    put(browser, ".find", "")
    box.click()
    assert len(shown(browser)) == everything


@pytest.mark.slow
def test_a_columns_name_sorts_by_its_numbers_up_and_down(browser: Any) -> None:
    names = [head.text for head in browser.find_elements("css selector", ".rows th button")]
    column = names.index("samples/s")

    def values() -> list[float]:
        cells = (row.find_elements("css selector", "td")[column].text for row in shown(browser))
        return [float(cell.replace(",", "")) for cell in cells if cell not in ("", "-", "–")]

    button = browser.find_elements("css selector", ".rows th button")[column]
    button.send_keys("\n")
    assert values() == sorted(values())
    button.send_keys("\n")
    assert values() == sorted(values(), reverse=True)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1400, 400])
def test_nothing_is_wider_than_the_window_and_text_is_readable(browser: Any, width: int, scheme: str) -> None:
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    size = {"width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    code = "const s = getComputedStyle(document.body); return [s.color, s.backgroundColor]"
    ink, paper = (sum(map(int, re.findall(r"\d+", each)[:3])) / 3 for each in browser.execute_script(code))
    assert abs(ink - paper) > 150
    assert (paper > ink) is (scheme == "light")


def test_the_pipeline_writes_the_page_and_keeps_it_out_of_git(measured: Project) -> None:
    html = measured.read("results/report.html")
    assert "ort_cpu_fp32" in html
    assert "results/report.html" not in measured.run("git", "ls-files").stdout


def test_without_rows_under_load_the_page_says_so(report: Report) -> None:
    nothing = pd.DataFrame(columns=report.serving.columns)
    shown = shown_of(Tables(report.table, nothing, {}), report.context)
    html = render_page(shown, {}, make_charts(shown, report.table, {}))
    assert "No row was served" in html
