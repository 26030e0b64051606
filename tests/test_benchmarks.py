"""The arithmetic and the documents of benchmarks/. Only bin/benchmark measures."""

import json
import shutil
import subprocess
import sys

import pytest
from role import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))

import report

ROUNDS = [
    {"peer": "direct", "round": 0, "size": 32, "rate": 100},
    {"peer": "project", "round": 0, "size": 32, "rate": 90},
    # In this round the machine was slow.
    {"peer": "direct", "round": 1, "size": 32, "rate": 10},
    {"peer": "project", "round": 1, "size": 32, "rate": 8},
    {"peer": "direct", "round": 2, "size": 32, "rate": 200},
    {"peer": "project", "round": 2, "size": 32, "rate": 140},
]


def test_figures_are_medians_and_ratios_are_those_of_a_round():
    direct, project = report.medians(ROUNDS, ("peer", "size"), ("rate",), "rate")
    assert direct == {"peer": "direct", "size": 32, "rate": 100, "ratio": 1}
    assert project == {"peer": "project", "size": 32, "rate": 90, "ratio": 0.8}


def test_a_ratio_compares_the_same_size():
    other = [{**row, "size": 64, "rate": 2 * row["rate"] if row["peer"] == "direct" else row["rate"]} for row in ROUNDS]
    ratios = {
        row["size"]: row["ratio"]
        for row in report.medians([*ROUNDS, *other], ("peer", "size"), ("rate",), "rate")
        if row["peer"] == "project"
    }
    assert ratios == {32: 0.8, 64: 0.4}


def test_of_storms_the_worst_round_counts():
    rounds = [
        {"peer": "project", "failed": 0, "per_process": [25, 25]},
        {"peer": "project", "failed": 3, "per_process": [20, 25]},
        {"peer": "project", "failed": 1, "per_process": [24, 25]},
    ]
    assert report.worst(rounds, "failed") == [{"peer": "project", "failed": 3, "evenness": 1.25}]


def test_a_process_without_connections_is_uneven_and_no_error():
    assert report.evenness([0, 7]) == 7


def test_a_table_replaces_what_is_between_its_markers():
    text = "a\n<!-- benchmark: one -->\nold\n<!-- end of benchmark -->\nb\n<!-- benchmark: two -->\n<!-- end of benchmark -->\n"
    filled = report.fill(text, {"one": "| new |"})
    assert filled == text.replace("old", "| new |")
    assert report.fill(filled, {"one": "| new |"}) == filled


def test_results_are_written_as_json_with_a_line_for_each_row():
    results = {"rows": [{"number": number, "filler": "x" * 60} for number in range(20)]}
    assert json.loads(report.dump(results)) == results
    assert len(report.dump(results).splitlines()) == 24


@pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler")
@pytest.mark.parametrize("program", ["load", "proxy"])
def test_the_programs_in_c_compile_without_a_warning(program):
    command = ["cc", "-O2", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", ROOT / f"benchmarks/{program}.c"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
