-- Which alerts are open, and which were? One row whenever an alert begins, is repeated or is resolved (docs/alerts.md); the
-- latest row of an alert says how it stands. Written by the collector that evaluates the rules, a few rows a day.
CREATE TABLE IF NOT EXISTS alerts
(
    at          DateTime64(3, 'UTC'),
    -- one occurrence: the rule, its group, and when it began
    alert       String,
    status      LowCardinality(String), -- firing or resolved
    rule        LowCardinality(String),
    kind        LowCardinality(String),
    severity    LowCardinality(String),
    labels      Map(LowCardinality(String), String),
    -- the filters of a question that shows it, as JSON: lists by name
    filters     String,
    since       DateTime64(3, 'UTC'),
    fired       DateTime64(3, 'UTC'),
    -- NaN where there is none
    value       Float64,
    limit_value Float64,
    unit        LowCardinality(String),
    text        String
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(at)
ORDER BY (alert, at)
TTL toDateTime(at) + INTERVAL 400 DAY
-- no journal holds these rows: an insert is on the disk before it is done
SETTINGS ttl_only_drop_parts = 1, fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1;
