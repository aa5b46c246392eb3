-- What does one OTLP request hold, span by span? A second table that keeps nothing: the nested message made flat, every
-- column of `spans` computed once, and the reason why a span cannot be stored ('' where it can).
CREATE TABLE IF NOT EXISTS span_arrivals
(
    received_at          DateTime64(9, 'UTC'),
    reason               LowCardinality(String),
    trace_id             String,
    span_id              String,
    parent_span_id       String,
    start_time_unix_nano UInt64,
    end_time_unix_nano   UInt64,
    name                 String,
    kind                 Int32,
    status_code          Int32,
    status_message       String,
    trace_state          String,
    attributes           Map(LowCardinality(String), String),
    attribute_types      Map(LowCardinality(String), LowCardinality(String)),
    resource             Map(LowCardinality(String), String),
    resource_types       Map(LowCardinality(String), LowCardinality(String)),
    scope_name           LowCardinality(String),
    scope_version        LowCardinality(String),
    scope_attributes     Map(LowCardinality(String), String),
    events Nested
    (
        time            DateTime64(9, 'UTC'),
        name            LowCardinality(String),
        attributes      Map(LowCardinality(String), String),
        attribute_types Map(LowCardinality(String), LowCardinality(String))
    ),
    links Nested
    (
        trace_id        FixedString(16),
        span_id         FixedString(8),
        attributes      Map(LowCardinality(String), String),
        attribute_types Map(LowCardinality(String), LowCardinality(String))
    )
)
ENGINE = Null;
