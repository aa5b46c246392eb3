-- How long do stages take, minute by minute? Roll-up states per minute and dimension; quantiles are DDSketch states with a
-- relative accuracy of 1 %. Read with countMerge-like functions: sum(spans), quantilesDDMerge(0.01, 0.5, …)(duration_quantiles).
CREATE TABLE IF NOT EXISTS stage_latency_1m
(
    received_date      Date,
    minute             DateTime64(0, 'UTC') CODEC(Delta, ZSTD(1)),
    stage              LowCardinality(String),
    service            LowCardinality(String),
    hardware           LowCardinality(String),
    version            LowCardinality(String),
    model              LowCardinality(String),
    region             LowCardinality(String),
    environment        LowCardinality(String),
    host               LowCardinality(String),
    run                LowCardinality(String),
    spans              SimpleAggregateFunction(sum, UInt64),
    errors             SimpleAggregateFunction(sum, UInt64),
    duration_sum_ns    SimpleAggregateFunction(sum, UInt64),
    duration_max_ns    SimpleAggregateFunction(max, UInt64),
    duration_quantiles AggregateFunction(quantilesDD(0.01, 0.5, 0.9, 0.95, 0.99, 0.999), UInt64)
)
ENGINE = AggregatingMergeTree
PARTITION BY received_date
ORDER BY (minute, stage, service, hardware, version, model, region, environment, host, run)
TTL received_date + INTERVAL 400 DAY
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = 10000;
