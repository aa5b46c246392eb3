-- Which alerts are open? One row each, the latest first: those whose last word is not that they are resolved.
SELECT
    alert,
    toUnixTimestamp64Nano(CAST(max(at), 'DateTime64(9, \'UTC\')')) AS updated_ns,
    argMax(status, at) AS last_status,
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
HAVING last_status = 'firing'
ORDER BY fired_ns DESC, alert
