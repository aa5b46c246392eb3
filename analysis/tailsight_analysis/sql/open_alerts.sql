-- Which alerts are open? One row each, the latest first: those of which no row says that they are resolved. (Not the last
-- row: where the clock was set back, the end of an alert has an earlier time than its begin.)
SELECT
    alert,
    toUnixTimestamp64Nano(CAST(max(at), 'DateTime64(9, \'UTC\')')) AS updated_ns,
    argMax(rule, at) AS rule,
    argMax(kind, at) AS kind,
    argMax(severity, at) AS severity,
    argMax(labels, at) AS labels,
    argMax(filters, at) AS filters,
    toUnixTimestamp64Nano(CAST(argMax(since, at), 'DateTime64(9, \'UTC\')')) AS since_ns,
    toUnixTimestamp64Nano(CAST(argMax(fired, at), 'DateTime64(9, \'UTC\')')) AS fired_ns,
    argMax(value, at) AS value,
    argMax(limit_value, at) AS limit_value,
    argMax(unit, at) AS unit,
    argMax(text, at) AS text
FROM alerts
GROUP BY alert
HAVING countIf(status != 'firing') = 0
ORDER BY fired_ns DESC, alert
