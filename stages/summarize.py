"""Put every variant's figures into tidy tables and metrics/variants, and write down what they show: findings.json."""

import _project  # noqa: F401

from bench.core.errors import run_stage
from bench.core.params import load_params
from bench.core.paths import SERVING_CSV, SUMMARY_CSV
from bench.findings.build import findings_of, write_findings
from bench.summary.build import read_tables
from bench.summary.table_file import write_metrics, write_table


def main() -> None:
    params = load_params()
    tables = read_tables(params)
    write_table(tables.summary, SUMMARY_CSV)
    write_table(tables.serving, SERVING_CSV)
    write_metrics(tables.summary, tables.serving)
    write_findings(findings_of(tables, params.report))


if __name__ == "__main__":
    run_stage(main)
