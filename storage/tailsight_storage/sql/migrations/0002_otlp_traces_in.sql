-- Where do OTLP bytes enter? Here: a table that keeps nothing and whose columns mirror ExportTraceServiceRequest, so
-- that ClickHouse's own Protobuf reader decodes it. Ids are String, not FixedString: one wrong id must not fail a segment.
CREATE TABLE IF NOT EXISTS otlp_traces_in
(
    received_unix_nano UInt64,
    resource_spans Array(Tuple(
        resource Tuple(attributes Array(Tuple(key String, value {{any_value}}))),
        scope_spans Array(Tuple(
            scope Tuple(name String, version String, attributes Array(Tuple(key String, value {{any_value}}))),
            spans Array(Tuple(
                trace_id String,
                span_id String,
                trace_state String,
                parent_span_id String,
                name String,
                kind Int32,
                start_time_unix_nano UInt64,
                end_time_unix_nano UInt64,
                attributes Array(Tuple(key String, value {{any_value}})),
                events Array(Tuple(time_unix_nano UInt64, name String, attributes Array(Tuple(key String, value {{any_value}})))),
                links Array(Tuple(trace_id String, span_id String, trace_state String, attributes Array(Tuple(key String, value {{any_value}})))),
                status Tuple(message String, code Int32)
            ))
        ))
    ))
)
ENGINE = Null
