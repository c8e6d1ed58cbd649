"""`join`, `lookup`, `union`: rows of several tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from vedette.hub.kql import tree
from vedette.hub.kql.dialect import Sql
from vedette.hub.kql.naming import Names, matches
from vedette.hub.kql.scalars import Bindings
from vedette.hub.kql.tree import Kind, KqlError, Name
from vedette.hub.kql.values import Value, common, literal, to

if TYPE_CHECKING:
    from vedette.hub.kql.emit import Emitter, Relation

SAME = Sql("{0} IS NOT DISTINCT FROM {1}", "{0} <=> {1}")


def join(emitter: Emitter, op: tree.Join, rows: Relation, bindings: Bindings) -> Relation:
    """`join` and `lookup`."""
    right = emitter.query(op.right, bindings)
    if op.kind in ("rightsemi", "rightanti"):
        rows, right, kind = right, rows, op.kind.replace("right", "left")
        pairs = [(b, a) for a, b in op.on]
    else:
        kind, pairs = op.kind, list(op.on)
    condition = " AND ".join(_equal(emitter, pair, rows, right, op.at) for pair in pairs)
    if kind == "innerunique":
        rows = _unique(emitter, rows, [left for left, _ in pairs])
    words = {
        "leftouter": "LEFT",
        "rightouter": "RIGHT",
        "fullouter": "FULL",
        "leftsemi": "LEFT SEMI",
        "leftanti": "LEFT ANTI",
    }
    if kind in ("leftsemi", "leftanti"):
        word = emitter.dialect.write(Sql(words[kind].removeprefix("LEFT "), words[kind]))
        shown = [(name, Value(f"l.{emitter.dialect.name(name)}", of)) for name, of in rows.columns.items()]
    else:
        word = words.get(kind, "INNER")
        dropped = {b for _, b in pairs} if op.op == "lookup" else set()
        shown = _sides(emitter, rows, right, dropped)
    return emitter.select(f" FROM {rows.name} AS l {word} JOIN {right.name} AS r ON {condition}", shown)


def _equal(emitter: Emitter, pair: tuple[str, str], left: Relation, right: Relation, at: int) -> str:
    for name, rows in zip(pair, (left, right), strict=True):
        emitter.missing(name, rows, at)
    sides = [
        Value(f"{side}.{emitter.dialect.name(name)}", rows.columns[name])
        for side, name, rows in (("l", pair[0], left), ("r", pair[1], right))
    ]
    kind = common(sides, at)
    return emitter.dialect.write(SAME, *(to(emitter.dialect, side, kind, at).sql for side in sides))


def _unique(emitter: Emitter, rows: Relation, keys: list[str]) -> Relation:
    """One row of each key, whichever: what `join` does with its left side unless told otherwise."""
    names = ", ".join(emitter.dialect.name(key) for key in keys)
    numbered = f"SELECT *, row_number() OVER (PARTITION BY {names} ORDER BY {names}) AS _n FROM {rows.name}"
    return emitter.add(
        f"SELECT {emitter.listed(rows.columns)} FROM ({numbered}) AS n WHERE _n = 1", rows.columns
    )


def _sides(emitter: Emitter, left: Relation, right: Relation, dropped: set[str]) -> list[tuple[str, Value]]:
    """The columns of both sides; those of the right with a number where the left has the name."""
    names = Names(left.columns)
    shown = [(name, Value(f"l.{emitter.dialect.name(name)}", kind)) for name, kind in left.columns.items()]
    for name, kind in right.columns.items():
        if name not in dropped:
            shown.append((names.take(name), Value(f"r.{emitter.dialect.name(name)}", kind)))
    return shown


def united(
    emitter: Emitter, op: tree.Union, found: list[tuple[str, Relation]], bindings: Bindings
) -> Relation:
    """Rows with those of more tables. found: name → rows so far."""
    for index, query in enumerate(op.tables):
        name = query.source.name if isinstance(query.source, Name) else f"union_arg{index}"
        if name.endswith("*"):
            matching = sorted(table for table in emitter.tables if matches(table, name))
            found += [(table, emitter.stored(table)) for table in matching]
            continue
        try:
            found.append((name, emitter.query(query, bindings)))
        except KqlError:
            if not (op.fuzzy and isinstance(query.source, Name) and name not in emitter.tables):
                raise
    if not found:
        raise KqlError("union of no table", op.at)
    columns = _united_columns(emitter, op, [rows for _, rows in found])
    return emitter.add(
        " UNION ALL ".join(_branch(emitter, op, name, rows, columns) for name, rows in found),
        {**({op.source_column: "string"} if op.source_column else {}), **columns},
    )


def _united_columns(emitter: Emitter, op: tree.Union, found: list[Relation]) -> dict[str, Kind]:
    columns: dict[str, Kind] = {}
    for rows in found:
        for name, kind in rows.columns.items():
            if columns.setdefault(name, kind) != kind:
                kinds = {columns[name], kind}
                if kinds not in ({"long", "real"}, {"string", "dynamic"}):
                    raise KqlError(f"column {name} is a {columns[name]} here and a {kind} there", op.at)
                columns[name] = "real" if "real" in kinds else "dynamic"
    if op.inner:
        return {name: kind for name, kind in columns.items() if all(name in rows.columns for rows in found)}
    return columns


def _branch(emitter: Emitter, op: tree.Union, name: str, rows: Relation, columns: Mapping[str, Kind]) -> str:
    cells = (
        [f"{emitter.dialect.text(name)} AS {emitter.dialect.name(op.source_column)}"]
        if op.source_column
        else []
    )
    for column, kind in columns.items():
        quoted = emitter.dialect.name(column)
        was = rows.columns.get(column)
        value = (
            to(emitter.dialect, Value(quoted, was), kind, op.at).sql
            if was
            else literal(emitter.dialect, None, kind)
        )
        cells.append(f"{value} AS {quoted}")
    return f"SELECT {', '.join(cells)} FROM {rows.name}"
