-- What do the samples of a window rest on? One row a recording that has any there, the latest first.
SELECT
    p.id AS id,
    toUnixTimestamp64Milli(p.started_at) AS started_ms,
    p.duration_ms AS duration_ms,
    p.service AS service,
    p.host AS host,
    p.process AS process,
    p.rate_hz AS rate_hz,
    p.trigger AS trigger,
    p.source AS source,
    p.samples AS samples,
    p.joined AS joined,
    p.ambiguous AS ambiguous,
    p.lost AS lost,
    p.offset_ms AS offset_ms,
    p.agreement AS agreement,
    p.by_chance AS by_chance,
    p.margin AS margin,
    p.trusted AS trusted,
    p.notes AS notes
FROM profiles AS p
WHERE p.id IN (SELECT s.profile FROM profile_samples AS s WHERE {{profile_scope}})
ORDER BY p.started_at DESC, p.id
LIMIT 1 BY p.id
LIMIT 1000
