-- Which numbered batches have arrived? The SDK's sidecar numbers what it sends and says in the scope's attributes what it
-- has counted so far, so that loss is known and never guessed (docs/analysis/delivery.md). One row an arrival: a batch
-- that came twice has two rows. Requests of others, who do not number, leave no row here.
CREATE TABLE IF NOT EXISTS sender_batches
(
    received_at DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    -- one life of one sidecar: a service process that starts anew has a new one
    sender      LowCardinality(String),
    number      UInt64 CODEC(Delta, ZSTD(1)),
    priority    LowCardinality(String),
    service     LowCardinality(String),
    host        LowCardinality(String),
    region      LowCardinality(String),
    hardware    LowCardinality(String),
    version     LowCardinality(String),
    run         LowCardinality(String),
    -- spans in the batch: as its sender says, as they were in the message, and those of them that were rejected
    spans       UInt64 CODEC(ZSTD(1)),
    arrived     UInt64 CODEC(ZSTD(1)),
    rejected    UInt64 CODEC(ZSTD(1)),
    stored      UInt64 ALIAS arrived - rejected,
    -- what the sender had counted since its start, when it made this batch
    recorded    UInt64 CODEC(Delta, ZSTD(1)),
    sent_total  UInt64 CODEC(Delta, ZSTD(1)),
    dropped     Map(LowCardinality(String), UInt64) CODEC(ZSTD(1)),
    sampled_out Map(LowCardinality(String), UInt64) CODEC(ZSTD(1)),
    kept        Map(LowCardinality(String), UInt64) CODEC(ZSTD(1)),
    last        Bool
)
ENGINE = MergeTree
PARTITION BY toDate(received_at)
ORDER BY (sender, number)
-- longer than spans: numbers that were forgotten would look like numbers that never came
TTL toDateTime(received_at) + INTERVAL 400 DAY
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = 10000;

-- Counters by reason, from a kvlist's keys and whole numbers; below zero counts as 0.
CREATE OR REPLACE FUNCTION tailsight_counts AS (reasons, counts) -> mapFromArrays(
    CAST(reasons, 'Array(LowCardinality(String))'), arrayMap(count -> toUInt64(greatest(0, count)), counts));

-- Requests without a batch number are put aside first. Attributes are taken as plain arrays, and looked up by the place of
-- their key: expressions over whole AnyValues take the engine longer to prepare than to run. A key that is not there has
-- place 0, where every array holds its type's default. A numbered scope that has no spans of its own speaks for those of
-- its resource: so what it says does not stand beside each of them in `spans`.
CREATE MATERIALIZED VIEW IF NOT EXISTS sender_batches_from_otlp TO sender_batches AS
SELECT
    fromUnixTimestamp64Nano(toInt64(received_ns), 'UTC') AS received_at,
    texts[indexOf(keys, 'tailsight.sender.id')] AS sender,
    toUInt64(greatest(0, ints[indexOf(keys, 'tailsight.batch.number')])) AS number,
    texts[indexOf(keys, 'tailsight.batch.priority')] AS priority,
    resource_texts[indexOf(resource_keys, 'service.name')] AS service,
    resource_texts[indexOf(resource_keys, 'host.name')] AS host,
    resource_texts[indexOf(resource_keys, 'cloud.region')] AS region,
    resource_texts[indexOf(resource_keys, 'tailsight.hardware')] AS hardware,
    resource_texts[indexOf(resource_keys, 'service.version')] AS version,
    resource_texts[indexOf(resource_keys, 'tailsight.run')] AS run,
    toUInt64(greatest(0, ints[indexOf(keys, 'tailsight.batch.spans')])) AS spans,
    if(empty(trace_ids), least(spans, length(arrayFlatten(its_trace_ids))), length(trace_ids)) AS arrived,
    least(arrived, arrayCount((trace_id, span_id, parent_span_id, start_ns, end_ns) ->
            tailsight_rejection(trace_id, span_id, parent_span_id, start_ns, end_ns, received_ns) != '',
        if(empty(trace_ids), arrayFlatten(its_trace_ids), trace_ids),
        if(empty(trace_ids), arrayFlatten(its_span_ids), span_ids),
        if(empty(trace_ids), arrayFlatten(its_parent_span_ids), parent_span_ids),
        if(empty(trace_ids), arrayFlatten(its_starts_ns), starts_ns),
        if(empty(trace_ids), arrayFlatten(its_ends_ns), ends_ns))) AS rejected,
    toUInt64(greatest(0, ints[indexOf(keys, 'tailsight.sender.recorded')])) AS recorded,
    toUInt64(greatest(0, ints[indexOf(keys, 'tailsight.sender.spans')])) AS sent_total,
    tailsight_counts(reasons[indexOf(keys, 'tailsight.sender.dropped')],
        counts[indexOf(keys, 'tailsight.sender.dropped')]) AS dropped,
    tailsight_counts(reasons[indexOf(keys, 'tailsight.sender.sampled_out')],
        counts[indexOf(keys, 'tailsight.sender.sampled_out')]) AS sampled_out,
    tailsight_counts(reasons[indexOf(keys, 'tailsight.sender.kept')],
        counts[indexOf(keys, 'tailsight.sender.kept')]) AS kept,
    flags[indexOf(keys, 'tailsight.sender.last')] AS last
FROM
(
    SELECT
        -- as in 0007: who inserts without the collector's stamp gets the time of the insert
        if(received_unix_nano = 0, toUInt64(toUnixTimestamp64Nano(now64(9))), received_unix_nano) AS received_ns,
        resource_spans.resource.attributes.key AS all_resource_keys,
        resource_spans.resource.attributes.value.string_value AS all_resource_texts,
        resource_spans.scope_spans.scope.attributes.key AS all_keys,
        resource_spans.scope_spans.scope.attributes.value.int_value AS all_ints,
        resource_spans.scope_spans.scope.attributes.value.bool_value AS all_flags,
        resource_spans.scope_spans.scope.attributes.value.string_value AS all_texts,
        resource_spans.scope_spans.scope.attributes.value.kvlist_value.values.key AS all_reasons,
        resource_spans.scope_spans.scope.attributes.value.kvlist_value.values.value.int_value AS all_counts,
        resource_spans.scope_spans.spans.trace_id AS all_trace_ids,
        resource_spans.scope_spans.spans.span_id AS all_span_ids,
        resource_spans.scope_spans.spans.parent_span_id AS all_parent_span_ids,
        resource_spans.scope_spans.spans.start_time_unix_nano AS all_starts_ns,
        resource_spans.scope_spans.spans.end_time_unix_nano AS all_ends_ns
    FROM otlp_traces_in
    WHERE has(arrayFlatten(resource_spans.scope_spans.scope.attributes.key), 'tailsight.batch.number')
)
ARRAY JOIN -- the message's resources
    all_resource_keys AS resource_keys, all_resource_texts AS resource_texts,
    all_keys AS its_keys, all_ints AS its_ints, all_flags AS its_flags, all_texts AS its_texts,
    all_reasons AS its_reasons, all_counts AS its_counts, all_trace_ids AS its_trace_ids, all_span_ids AS its_span_ids,
    all_parent_span_ids AS its_parent_span_ids, all_starts_ns AS its_starts_ns, all_ends_ns AS its_ends_ns
ARRAY JOIN -- a resource's scopes
    its_keys AS keys, its_ints AS ints, its_flags AS flags, its_texts AS texts,
    its_reasons AS reasons, its_counts AS counts, its_trace_ids AS trace_ids, its_span_ids AS span_ids,
    its_parent_span_ids AS parent_span_ids, its_starts_ns AS starts_ns, its_ends_ns AS ends_ns
WHERE number > 0 AND sender != '';
