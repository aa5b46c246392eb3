-- Which code ran while a stage was running? Samples of stacks, joined to spans before they came here (docs/profiles.md): by
-- `tailsight profile`, or from files. A recording's rows go in as one insert a table, its row of `profiles` last.
CREATE TABLE IF NOT EXISTS profile_samples
(
    received_at DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    -- of the first of `count` samples that followed each other with the same stack in the same span
    time        DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1)),
    profile     LowCardinality(String), -- profiles.id
    -- zeros where no stage was running, or where it is not known which; in hexadecimal as they are sent
    sent_trace_id String EPHEMERAL,
    sent_span_id  String EPHEMERAL,
    trace_id    FixedString(16) DEFAULT toFixedString(unhex(sent_trace_id), 16) CODEC(ZSTD(1)),
    span_id     FixedString(8) DEFAULT toFixedString(unhex(sent_span_id), 8) CODEC(ZSTD(1)),
    stage       LowCardinality(String),
    service     LowCardinality(String),
    host        LowCardinality(String),
    version     LowCardinality(String),
    run         LowCardinality(String),
    hardware    LowCardinality(String),
    model       LowCardinality(String),
    process     UInt64 CODEC(ZSTD(1)),
    thread      UInt64 CODEC(ZSTD(1)),
    -- of the request, among those of the recording: tail, typical, or '' for neither
    class       LowCardinality(String),
    -- exact; stage, where it is not known which of several requests; ambiguous, in no flame graph; none, outside of all spans
    match       LowCardinality(String),
    -- running; gil, waiting for the interpreter's lock; waiting, for anything else; unknown
    state       LowCardinality(String),
    -- further requests that the same execution served (a batch), in hexadecimal
    also        Array(String) CODEC(ZSTD(3)),
    -- from the outermost function inwards: 'function (file:line)'
    stack       Array(LowCardinality(String)) CODEC(ZSTD(3)),
    count       UInt32 CODEC(ZSTD(1))
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(received_at)
ORDER BY (service, stage, time)
TTL toDateTime(received_at) + INTERVAL 30 DAY
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = 1000,
    -- no journal holds these rows: an insert is on the disk before it is done
    fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1;

-- Which requests did the recorded process serve meanwhile, also those that no sample met? One row each; what is rare in a
-- class of requests can only be told from how many there were.
CREATE TABLE IF NOT EXISTS profile_requests
(
    received_at   DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    profile       LowCardinality(String),
    sent_trace_id String EPHEMERAL,
    trace_id      FixedString(16) DEFAULT toFixedString(unhex(sent_trace_id), 16) CODEC(ZSTD(1)),
    class         LowCardinality(String),
    run           LowCardinality(String),
    duration_ns   UInt64 CODEC(ZSTD(1))
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(received_at)
ORDER BY (profile, class, run)
TTL toDateTime(received_at) + INTERVAL 30 DAY
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = 1000,
    fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1;

-- Which recordings are there, and how good is their join? One row each; samples without one are of an insert that was cut off.
CREATE TABLE IF NOT EXISTS profiles
(
    received_at  DateTime64(3, 'UTC'),
    -- a hash of the content: the same recording again has the same one
    id           String,
    started_at   DateTime64(3, 'UTC'),
    duration_ms  Float64,
    service      LowCardinality(String),
    host         LowCardinality(String),
    process      UInt64,
    rate_hz      Float64,
    trigger      LowCardinality(String), -- hand, schedule, tail or import
    source       LowCardinality(String), -- what took the samples, like 'py-spy 0.4.3'
    -- as taken: all threads, in and outside of stages
    samples      UInt64,
    joined       UInt64,
    ambiguous    UInt64,
    -- what the profiler itself could not read
    lost         UInt64,
    -- the fit of the profiler's clock to the spans'; null where none was made
    offset_ms    Nullable(Float64), -- from the profiler's start to its clock's zero
    agreement    Nullable(Float64),
    by_chance    Nullable(Float64),
    margin       Nullable(Float64),
    -- whether the fit decides; without that no sample is joined
    trusted      Bool,
    notes        Array(String)
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(received_at)
ORDER BY (started_at, id)
TTL toDateTime(received_at) + INTERVAL 30 DAY
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = 1000,
    fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1;
