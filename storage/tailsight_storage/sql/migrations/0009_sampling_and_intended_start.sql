-- For how many requests does a kept one stand, why was it kept, and when should it have started?
-- The SDK says so on a request's entry span (docs/analysis/sampling.md, docs/analysis/breakdown.md). Columns of `spans` that
-- no view names are filled from their defaults, at insert.

ALTER TABLE spans
    -- 1 / the probability with which the request was kept. Whatever cannot be that (no number, not finite, below 1, above
    -- 1e9) is 1: a span counts for itself, and no single one can outweigh all others.
    ADD COLUMN IF NOT EXISTS weight Float64 DEFAULT if(
        toFloat64OrZero(attributes['tailsight.sampling.weight']) BETWEEN 1 AND 1e9,
        toFloat64OrZero(attributes['tailsight.sampling.weight']), 1.) CODEC(ZSTD(1)),
    -- '' where nobody decided about keeping this span
    ADD COLUMN IF NOT EXISTS sampling_reason LowCardinality(String) DEFAULT attributes['tailsight.sampling.reason'],
    -- as sent, in nanoseconds since 1970; 0 where absent, 1 where it is no such number
    ADD COLUMN IF NOT EXISTS intended_start_ns UInt64 DEFAULT if(
        attributes['tailsight.intended_start_unix_nano'] = '', 0,
        greatest(1, toUInt64OrZero(attributes['tailsight.intended_start_unix_nano']))) CODEC(ZSTD(1)),
    -- so that a window without any is known from the index alone, and pays nothing
    ADD INDEX IF NOT EXISTS weight_range weight TYPE minmax GRANULARITY 4,
    ADD INDEX IF NOT EXISTS intended_start_range intended_start_ns TYPE minmax GRANULARITY 4;

-- Of spans that are stored already, the columns are written in the background; until then they are computed when read.
ALTER TABLE spans MATERIALIZE COLUMN weight;
ALTER TABLE spans MATERIALIZE COLUMN sampling_reason;
ALTER TABLE spans MATERIALIZE COLUMN intended_start_ns;
ALTER TABLE spans MATERIALIZE INDEX weight_range;
ALTER TABLE spans MATERIALIZE INDEX intended_start_range;

-- The roll-up cannot be weighted: a request's weight comes with its entry span, which ends last and may arrive in another
-- segment than its stages, and quantilesDD takes no weights. It counts what is stored, and says where that is a sample.
ALTER TABLE stage_latency_1m ADD COLUMN IF NOT EXISTS max_weight SimpleAggregateFunction(max, Float64) DEFAULT 1;

ALTER TABLE stage_latency_1m MODIFY COMMENT
    'Counts stored spans, unweighted. Where max(max_weight) > 1 over all stages of a service, the SDK kept a sample: ask spans, or tailsight breakdown, instead';

-- A view of its own, that adds no spans: to change the view that is there (MODIFY QUERY, or to make it anew) would change the
-- names under which the engine remembers what it inserted, and a segment loaded again would be counted twice.
CREATE MATERIALIZED VIEW IF NOT EXISTS stage_weight_1m_from_spans TO stage_latency_1m AS
SELECT
    toDate(received_at) AS received_date,
    toStartOfMinute(start_time) AS minute,
    stage, service, hardware, version, model, region, environment, host, run,
    max(weight) AS max_weight
FROM spans
WHERE weight > 1
GROUP BY received_date, minute, stage, service, hardware, version, model, region, environment, host, run;
