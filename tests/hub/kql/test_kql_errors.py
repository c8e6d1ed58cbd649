"""What is no KQL, or not supported: the error names it and says where."""

from __future__ import annotations

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vedette.hub.console.samples import SAMPLES
from vedette.hub.kql import Dialect, DuckDB, Kind, KqlError, Spark, translate
from vedette.hub.lake.kql import tables

CONNECTION = duckdb.connect()

TABLES: dict[str, dict[str, Kind]] = {
    "T": {"a": "long", "s": "string", "d": "dynamic", "t": "datetime"},
    "U": {"a": "long", "B": "string"},
}


@pytest.mark.parametrize(
    ("text", "at", "expected"),
    [
        ("T | frobnicate a", 4, "the operator 'frobnicate' is not supported; supported are"),
        ("T | make-series count() on t", 4, "'make-series' is not supported"),
        ("T | where strlem(s) > 1", 10, "strlem() is not supported; did you mean strlen?"),
        ("T | where A == 1", 10, 'no column "A" here; there are a, s, d, t'),
        ("Tee | count", 0, 'no table "Tee"'),
        ("T | where", 9, "expected a value instead of the end"),
        ("T | where a == ", 15, "expected a value"),
        ("T | where (a == 1", 17, "expected ')'"),
        ("T | where s == 'x", 15, "a string that does not end"),
        ("T | where a ? 1", 12, "'?' is not understood"),
        ("T | take many", 9, "expected a number of rows"),
        ("T | where s == 1", 12, "long and string do not go together"),
        ("T | where s.x == 1", 11, "a string has no parts"),
        ("T | where s has a", 16, "takes a text"),
        ("T | extend x = sum(a)", 15, "belongs into summarize"),
        ("T | extend x = t + t", 17, "a datetime cannot become a real"),
        ("T | extend x = substring(s)", 15, "takes 2 or 3 arguments, not 1"),
        ("T | extend x = prev(a)", 15, "needs rows that are sorted"),
        ("T | extend x = format_datetime(t, 'QQ')", 15, "has no 'QQ' here"),
        ("T | extend A = 1", 4, "differ only in case"),
        ("T | join kind=weird U on a", 4, "join has no kind 'weird'"),
        ("T | join U on c", 4, 'no column "c" here'),
        ("T | mv-expand a", 14, "takes a dynamic value, not a long"),
        ("T | project-away a, s, d, t", 4, "leaves no column"),
        ("union T, U2", 9, 'no table "U2"'),
        ("let x = 1; let y = x; T | where a == z", 37, 'no column "z"'),
        ("T | where t > datetime(2026-13-01)", 14, "is no datetime"),
        ("set notruncation; T", 0, "'set' is not supported"),
        ("T; U", 3, "expected '|' or the end"),
        ("T | where " + "(" * 200 + "a", 0, "nested too deeply"),
    ],
)
def test_errors_name_what_is_wrong_and_where(text: str, at: int, expected: str):
    """The place is that of the word itself."""
    with pytest.raises(KqlError) as caught:
        translate(text, TABLES, DuckDB())
    assert expected in str(caught.value)
    assert caught.value.at == at or "deeply" in expected


WORDS = (
    "T U a s d t | where extend summarize by count ( ) == + - , 1 1d 'x' let x = ; project has in . [ ] "
    "join on kind union parse with * mv-expand dynamic bin ago datetime(2026-01-01) top sort asc"
)
words = st.sampled_from(WORDS.split())


def place(text: str, dialect: Dialect) -> int:
    """Where the error is; 0 if it is a query."""
    try:
        assert translate(text, TABLES, dialect).columns
    except KqlError as error:
        return error.at
    return 0


@settings(max_examples=60)
@given(st.one_of(st.text(), st.lists(words, max_size=25).map(" ".join)))
def test_any_text_is_a_query_or_an_error(text: str):
    """Never anything else, for any engine; and the error is within the text."""
    assert 0 <= place(text, DuckDB()) <= len(text)
    assert 0 <= place(text, Spark()) <= len(text)


@settings(max_examples=60)
@given(st.text(max_size=40))
def test_a_text_stays_a_text(text: str):
    """Whatever stands in quotes comes back as it is: nothing of it becomes SQL."""
    text = text.replace("\0", "")  # DuckDB has no such character in a literal
    literal = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    sql = translate(f'print x = "{literal}"', {}, DuckDB()).sql
    assert CONNECTION.execute(sql).fetchall() == [(text,)]


def test_a_long_chain_is_no_depth():
    """Two thousand conditions in a row are read; an engine may still find them too many."""
    chain = " or ".join(f"a == {number}" for number in range(2_000))
    assert translate(f"T | where {chain}", TABLES, Spark()).sql.count(" OR ") == 1_999


DOUBLED = "".join(f"let x{n} = x{n - 1} + x{n - 1}; " for n in range(1, 40))
CALLED = "".join(f"let f{n} = () {{ union f{n - 1}(), f{n - 1}() }}; " for n in range(1, 40))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("let x0 = 1; " + DOUBLED + "print x39", "too long"),
        ("T | extend y = " + "bin(" * 35 + "a" + ", 3)" * 35, "too long"),
        ("let f0 = () { T }; " + CALLED + "f39()", "more than 500 steps"),
    ],
)
def test_what_grows_without_end_is_stopped(text: str, expected: str):
    """Names that double what they stand for, and functions that call others twice."""
    with pytest.raises(KqlError, match=expected):
        translate(text, TABLES, Spark())


@pytest.mark.parametrize(("name", "text"), SAMPLES["kql"])
def test_the_console_s_samples_are_written_for_every_engine(name: str, text: str):
    """Each of them, unchanged."""
    for dialect in (DuckDB(), Spark()):
        assert translate(text, tables(), dialect).columns
