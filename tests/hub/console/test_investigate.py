"""Results of a query as a chart and as a file."""

import csv
import io
from datetime import datetime

from vedette.hub.console.investigate_chart import chart_options
from vedette.hub.console.investigate_table import csv_of
from vedette.hub.console.samples import SAMPLES
from vedette.hub.lake import Lake, Result

T0, T1 = datetime(2026, 1, 1), datetime(2026, 1, 1, 0, 1)


def test_render_decides_the_chart():
    """Its word alone, and only as the last operator."""
    rows = [("a", 3), ("b", 5)]
    result = Result(("Name", "Hits"), rows)
    assert chart_options(result, "T | summarize count() by Name") is None
    assert chart_options(result, "T | render table") is None
    assert chart_options(result, "T | where x == '| render piechart' | take 1") is None
    pie = chart_options(result, "T | render piechart")
    assert pie is not None
    assert pie["series"][0]["data"] == [{"name": "a", "value": 3}, {"name": "b", "value": 5}]
    bars = chart_options(result, "T | render barchart with (title='x')")
    assert bars is not None
    assert bars["yAxis"]["type"] == "category", "KQL's bars lie"
    columns = chart_options(result, "T | render columnchart ")
    assert columns is not None
    assert columns["xAxis"]["type"] == "category"


def test_a_timechart_has_a_line_for_every_word_in_the_order_of_time():
    """As KQL has it: time, then what splits, then the number."""
    rows = [(T1, "Process", 7), (T0, "Process", 5), (T0, "Login", 1)]
    options = chart_options(Result(("At", "Type", "Hits"), rows), "T | render timechart")
    assert options is not None
    lines = {line["name"]: [value for _, value in line["data"]] for line in options["series"]}
    assert lines == {"Process": [5, 7], "Login": [1]}
    assert options["xAxis"]["type"] == "time"


def test_rows_without_a_number_or_without_rows_make_no_chart():
    """The table is shown all the same."""
    assert chart_options(Result(("A",), [("x",)]), "T | render timechart") is None
    assert chart_options(Result(("A", "N"), []), "T | render timechart") is None
    assert chart_options(Result(("N",), [(1,)]), "T | render timechart") is None


def test_tooltips_are_text_and_never_markup():
    """What is shown when one points at a chart comes from devices."""
    result = Result(("Name", "Hits"), [("<img src=x onerror=alert(1)>", 3)])
    for word in ("piechart", "barchart", "timechart"):
        options = chart_options(result, f"T | render {word}")
        assert options is not None
        assert options["tooltip"]["renderMode"] == "richText"


def test_an_exported_cell_is_no_formula():
    """A spreadsheet that opens the file runs nothing that a device has sent."""
    result = Result(
        ("Commandline", "Hits", "At"), [("=cmd()", -1, T0), ('say "hi", x', 2, T1), (None, 3, T1)]
    )
    rows = list(csv.reader(io.StringIO(csv_of(result).decode())))
    assert rows == [
        ["Commandline", "Hits", "At"],
        ["'=cmd()", "-1", "2026-01-01 00:00:00"],
        ['say "hi", x', "2", "2026-01-01 00:01:00"],
        ["", "3", "2026-01-01 00:01:00"],
    ]


def test_every_sample_runs(tmp_path):
    """On a lake that has nothing yet."""
    lake = Lake(tmp_path / "lake")
    for language, samples in SAMPLES.items():
        for name, query in samples:
            assert lake.query(query, language).rows in ([], [(None,)]), name
