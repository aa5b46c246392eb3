-- What was refused, and why? Spans that cannot be stored without lying about them: nothing about them is repaired.
CREATE TABLE IF NOT EXISTS rejected_spans
(
    received_at          DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    reason               LowCardinality(String),
    service              LowCardinality(String),
    name                 String,
    trace_id_hex         String,
    span_id_hex          String,
    parent_span_id_hex   String,
    start_time_unix_nano UInt64,
    end_time_unix_nano   UInt64,
    attributes           Map(LowCardinality(String), String),
    resource             Map(LowCardinality(String), String)
)
ENGINE = MergeTree
PARTITION BY toDate(received_at)
ORDER BY (reason, service, received_at)
TTL toDateTime(received_at) + INTERVAL 30 DAY
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = 10000;
