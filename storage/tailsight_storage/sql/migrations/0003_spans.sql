-- Where do spans stay? One row a span, as it was sent; names that people filter by are columns of their own.
-- Partitions follow the day of arrival, not the span's own time: a trace of 2017 is welcome and stays, any mix of days
-- in one insert fills one partition, and retention counts from arrival.
CREATE TABLE IF NOT EXISTS spans
(
    received_at        DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    start_time         DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1)),
    duration_ns        UInt64 CODEC(ZSTD(1)),
    trace_id           FixedString(16) CODEC(ZSTD(1)),
    span_id            FixedString(8) CODEC(ZSTD(1)),
    parent_span_id     FixedString(8) CODEC(ZSTD(1)),
    trace_id_hex       String ALIAS lower(hex(trace_id)),
    span_id_hex        String ALIAS lower(hex(span_id)),
    parent_span_id_hex String ALIAS if(parent_span_id = toFixedString('', 8), '', lower(hex(parent_span_id))),
    service            LowCardinality(String),
    stage              LowCardinality(String),
    name               LowCardinality(String),
    kind               LowCardinality(String),
    status             LowCardinality(String),
    status_message     String CODEC(ZSTD(1)),
    hardware           LowCardinality(String),
    host               LowCardinality(String),
    region             LowCardinality(String),
    environment        LowCardinality(String),
    version            LowCardinality(String),
    run                LowCardinality(String),
    model              LowCardinality(String),
    thread_id          UInt64 CODEC(ZSTD(1)),
    trace_state        String CODEC(ZSTD(1)),
    -- values as text; the type of every value that is not a string stands beside it
    attributes         Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    attribute_types    Map(LowCardinality(String), LowCardinality(String)) CODEC(ZSTD(1)),
    resource           Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    resource_types     Map(LowCardinality(String), LowCardinality(String)) CODEC(ZSTD(1)),
    scope_name         LowCardinality(String),
    scope_version      LowCardinality(String),
    scope_attributes   Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    events Nested
    (
        time            DateTime64(9, 'UTC'),
        name            LowCardinality(String),
        attributes      Map(LowCardinality(String), String),
        attribute_types Map(LowCardinality(String), LowCardinality(String))
    ) CODEC(ZSTD(1)),
    links Nested
    (
        trace_id        FixedString(16),
        span_id         FixedString(8),
        attributes      Map(LowCardinality(String), String),
        attribute_types Map(LowCardinality(String), LowCardinality(String))
    ) CODEC(ZSTD(1)),
    INDEX trace_id_bloom trace_id TYPE bloom_filter(0.01) GRANULARITY 1
)
ENGINE = MergeTree
PARTITION BY toDate(received_at)
-- A window of time is a range of the key; within a minute the spans of one trace lie together, so that their trace id
-- compresses and a trace is read from few places.
ORDER BY (toStartOfMinute(start_time), trace_id, start_time)
TTL toDateTime(received_at) + INTERVAL 30 DAY
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = 10000;
