"""Questions to begin with. The KQL ones run as they are on the tables of the retired service, too."""

from __future__ import annotations

SAMPLES: dict[str, tuple[tuple[str, str], ...]] = {
    "kql": (
        (
            "Hits by type",
            "SecurityIoTRawEvent\n| where TimeGenerated > ago(1d)\n"
            "| summarize Events=count(), Hits=sum(HitCount) by RawEventName\n| order by Hits desc",
        ),
        (
            "Activity over time",
            "SecurityIoTRawEvent\n| where TimeGenerated > ago(1h)\n"
            "| summarize Hits=sum(HitCount) by bin(TimeGenerated, 1m), RawEventName\n| render timechart",
        ),
        (
            "Top command lines",
            "Process\n| where TimeGenerated > ago(1d)\n"
            "| summarize Hits=sum(HitCount), Devices=dcount(DeviceId), Last=max(TimeStamp) by Commandline\n"
            "| top 50 by Hits desc",
        ),
        (
            "Failed checks",
            'let lastDates = SecurityIoTRawEvent\n| where RawEventName == "Baseline"\n'
            "| summarize TimeStamp=max(TimeStamp) by DeviceId;\n"
            "lastDates\n| join kind=inner (SecurityIoTRawEvent) on TimeStamp, DeviceId\n"
            '| extend event = parse_json(EventDetails)\n| where event.BaselineCheckResult == "FAIL"\n'
            "| project DeviceId, event.BaselineCheckId, event.BaselineCheckDescription",
        ),
        (
            "Checks by result",
            "Baseline\n| where TimeGenerated > ago(7d)\n| summarize Checks=count() by BaselineCheckResult\n"
            "| render piechart",
        ),
        (
            "Who talks most",
            "NetworkActivity\n| where TimeGenerated > ago(1d)\n"
            "| summarize Bytes=sum(BytesIn + BytesOut), Packets=sum(HitCount) by RemoteAddress, RemotePort\n"
            "| top 20 by Bytes desc\n| render barchart",
        ),
        (
            "Refused logins",
            "Login\n| where Operation == 'LoginFailed' and TimeGenerated > ago(7d)\n"
            "| summarize Attempts=sum(HitCount), Last=max(TimeStamp) by DeviceId, UserName, RemoteAddress\n"
            "| order by Attempts desc",
        ),
        (
            "Alerts by device",
            "SecurityAlert\n| where TimeGenerated > ago(7d)\n"
            "| summarize Cnt=dcount(SystemAlertId) by IoTHubId=ResourceId,\n"
            '    DeviceId=tostring(parse_json(ExtendedProperties)["DeviceId"]), AlertSeverity, DisplayName',
        ),
    ),
    "sql": (
        (
            "Hits by type",
            "SELECT RawEventName, count(*) AS Events, sum(HitCount) AS Hits\nFROM SecurityIoTRawEvent\n"
            "GROUP BY ALL ORDER BY Hits DESC",
        ),
        (
            "Top command lines",
            "SELECT Commandline, sum(HitCount) AS Hits, count(DISTINCT DeviceId) AS Devices\nFROM Process\n"
            "GROUP BY ALL ORDER BY Hits DESC LIMIT 50",
        ),
        (
            "Unreadable messages",
            "SELECT TimeGenerated, DeviceId, Reason, Events\nFROM dead_letters\n"
            "ORDER BY TimeGenerated DESC LIMIT 100",
        ),
    ),
}
"""Language → (name, query), in the order shown; the first stands in an empty editor."""

_KQL = """ago arg_max asc avg barchart between bin by contains count countif datetime dcount desc distinct
extend has has_any iff in inner isempty isnotempty join kind leftouter let limit make_set max min order
parse_json percentile piechart project render sort split startswith strcat sum summarize take timechart toint
top tostring union where"""

_SQL = """AND AS ASC BETWEEN BY CASE DESC DISTINCT ELSE END FROM GROUP HAVING IN INTERVAL JOIN LEFT LIKE LIMIT
NOT ON OR ORDER SELECT THEN USING WHEN WHERE WITH avg count json_extract_string max min now sum time_bucket"""

WORDS = {"kql": _KQL.split(), "sql": _SQL.split()}
"""Language → words that are offered beside the names of tables and columns."""
