"""Questions to the lake as pages and files ask them."""

import asyncio
from pathlib import Path

import pytest

from vedette.hub.console.investigate import EXPORT_ROWS, file_of
from vedette.hub.console.questions import Questions
from vedette.hub.lake import Lake, QueryError
from vedette.hub.lake.tables import open_tables


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    open_tables(tmp_path)
    return Lake(tmp_path)


async def test_several_questions_are_answered_together(lake: Lake):
    """Each with its rows in its order, none where there are none."""
    found = await Questions(lake).ask_together(
        {
            "numbers": "SELECT range AS N FROM range(2000) ORDER BY N DESC",
            "named": "WITH t AS (SELECT 1 AS A, 'x' AS B) SELECT * FROM t",
            "none": "SELECT * FROM raw_events",
        }
    )
    assert [row["N"] for row in found["numbers"]] == list(range(1999, -1, -1))
    assert found["named"] == [{"A": 1, "B": "x"}]
    assert found["none"] == []


async def test_who_asks_the_same_at_once_shares_the_answer(lake: Lake):
    """One query serves all; a wrong one is everybody's error."""
    questions = Questions(lake)
    same = await asyncio.gather(*(questions.ask("SELECT uuid() AS Id") for _ in range(3)))
    assert same[0] == same[1] == same[2]
    with pytest.raises(QueryError):
        await questions.ask_together({"wrong": "SELECT nothing"})


def test_a_file_lacks_no_rows(lake: Lake):
    """One with too many is refused; all that fit are in it."""
    whole = file_of(lake, "SELECT range AS N FROM range(3)", "sql", "csv")
    assert whole.decode().split() == ["N", "0", "1", "2"]
    with pytest.raises(QueryError, match="ask for a part"):
        file_of(lake, f"SELECT range AS N FROM range({EXPORT_ROWS + 1})", "sql", "csv")
