-- What did gates find? One row a report that was kept (docs/gate.md), a few a day: by the collector that it was sent to, or by
-- `tailsight gate` where nobody else has the store. Lists read the columns; `report` is all of it, as JSON.
CREATE TABLE IF NOT EXISTS gate_reports
(
    -- when the gate judged, and when its report came here
    at                  DateTime64(3, 'UTC'),
    kept_at             DateTime64(3, 'UTC'),
    -- of the content: the same report again has the same one
    id                  String,
    verdict             LowCardinality(String), -- regression, pass or inconclusive
    title               String,
    baseline_sources    Array(String),
    baseline_commits    Array(String),
    baseline_branches   Array(String),
    baseline_versions   Array(String),
    baseline_runs       UInt32,
    baseline_requests   UInt64,
    candidate_sources   Array(String),
    candidate_commits   Array(String),
    candidate_branches  Array(String),
    candidate_versions  Array(String),
    candidate_runs      UInt32,
    candidate_requests  UInt64,
    -- how many comparisons ended how
    regressions         UInt32,
    improvements        UInt32,
    inconclusive        UInt32,
    passed              UInt32,
    -- the first of each: the decisive ones
    reasons             Array(String),
    differences         Array(String),
    -- of the calibration; null without one
    false_alarm_rate    Nullable(Float64),
    false_alarm_low     Nullable(Float64),
    false_alarm_high    Nullable(Float64),
    report              String CODEC(ZSTD(6))
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(kept_at)
ORDER BY (at, id)
TTL toDateTime(kept_at) + INTERVAL 400 DAY
-- no journal holds these rows: an insert is on the disk before it is done
SETTINGS ttl_only_drop_parts = 1, fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1;
