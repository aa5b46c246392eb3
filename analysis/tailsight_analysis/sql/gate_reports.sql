-- What did the gates find whose reports were kept? One row a report, the latest first.
SELECT
    id,
    toUnixTimestamp64Milli(at) AS at_ms,
    verdict,
    title,
    baseline_sources,
    baseline_commits,
    baseline_branches,
    baseline_versions,
    baseline_runs,
    baseline_requests,
    candidate_sources,
    candidate_commits,
    candidate_branches,
    candidate_versions,
    candidate_runs,
    candidate_requests,
    regressions,
    improvements,
    inconclusive,
    passed,
    reasons,
    differences,
    false_alarm_rate,
    false_alarm_low,
    false_alarm_high
FROM gate_reports
ORDER BY at DESC, id
LIMIT 1 BY id
LIMIT {limit:UInt32}
