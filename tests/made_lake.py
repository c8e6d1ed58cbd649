"""A lake of made-up events, as many as asked for, written in one go: what queries are tried on."""

from __future__ import annotations

from pathlib import Path

import duckdb
from deltalake import write_deltalake

from vedette.hub.lake.tables import PARTITION, RAW_EVENTS, arrow_schema

DEVICES = 50
START = 1_767_225_600
"""2026-01-01T00:00:00Z, in Unix seconds."""

DAYS = 5

_NAME = "['Process', 'NetworkActivity', 'Login', 'Baseline'][1 + i % 4]"
_TIME = f"make_timestamp({START * 1_000_000} + (i * 1_000_000 * {DAYS} * 86400 // $rows))"
_DETAILS = """CASE i % 4
    WHEN 0 THEN '{"EventType":"EXEC","ProcessId":' || j % 9973 || ',"ParentProcessId":1,"Commandline":"'
        || ['/usr/sbin/sshd -D','ls -l /tmp','curl http://10.0.0.9/x?id=' || j % 100 || ' end',
            'bash -c \\"echo a b\\"','CRON job'][1 + j % 5]
        || '","Executable":"/usr/bin/x","UserName":"u' || j % 3 || '","UserId":' || j % 3 || '}'
    WHEN 1 THEN '{"LocalAddress":"10.0.0.1","RemoteAddress":"' || ['10.1.2.','8.8.4.'][1 + j % 2] || j % 20
        || '","LocalPort":' || 1024 + j % 999 || ',"RemotePort":' || [22,53,443][1 + j % 3]
        || ',"BytesIn":' || j % 1500 || ',"BytesOut":' || j % 700 || ',"Protocol":"TCP","ProcessId":7}'
    WHEN 2 THEN '{"Operation":"' || ['Login','LoginFailed'][1 + j % 2] || '","ProcessId":5,"UserName":"u'
        || j % 3 || '","Executable":"tty1","RemoteAddress":"10.9.8.' || j % 5 || '"}'
    ELSE '{"EventId":"e' || j // 400 || '","BaselineCheckId":"' || [1,5,6][1 + j % 3] || '.' || j % 7
        || '","BaselineCheckResult":"' || ['PASS','FAIL','SKIP'][1 + j % 3]
        || '","BaselineCheckDescription":"check","Parts":["a",' || j % 3 || ']}'
END"""


PART = 2_000_000
"""Rows that are made at a time, 2 GB of memory."""


def make(lake: Path, rows: int) -> Path:
    """Fill `raw_events` with so many rows of four types, the same ones each time; the lake."""
    values = {
        "AgentVersion": "'1.2.3'",
        "DeviceId": f"'dev' || i // 7 % {DEVICES}",
        "ModuleId": "'m'",
        "EventDetails": _DETAILS,
        "IoTRawEventId": "'id' || i",
        "IsEmpty": "false",
        "RawEventCategory": "'Triggered'",
        "RawEventName": _NAME,
        "RawEventType": "'Security'",
        "TimeGenerated": _TIME,
        "TimeStamp": f"{_TIME} - INTERVAL 5 SECOND",
        "HitCount": "1 + i % 11",
        "WindowStart": f"{_TIME} - INTERVAL 60 SECOND",
        "WindowEnd": _TIME,
        "MessageId": "'msg' || i // 20",
        "EventIndex": "i % 20",
        PARTITION: f"CAST({_TIME} AS DATE)",
    }
    cells = ", ".join(f"{values.get(name, chr(39) * 2)} AS {name}" for name in RAW_EVENTS.columns)
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for begin in range(0, rows, PART):
            made = f"SELECT i, i // 4 AS j FROM range({begin}, {min(begin + PART, rows)}) AS made(i)"
            select = f"SELECT {cells} FROM ({made}) ORDER BY DeviceId, TimeGenerated"
            found = connection.sql(select.replace("$rows", str(rows))).to_arrow_table()
            write_deltalake(
                str(RAW_EVENTS.files(lake).uri),
                found.cast(arrow_schema(RAW_EVENTS)),
                partition_by=[PARTITION],
                mode="append",
            )
    return lake
