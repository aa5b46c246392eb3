-- In which state were the machines? One row a sample of a device or host metric, as tailsight's sampler, the OpenTelemetry
-- Collector's host metrics or a GPU exporter sends it over OTLP. Partitions and retention as those of `spans`.
CREATE TABLE IF NOT EXISTS hardware_samples
(
    received_at DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    time        DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1)),
    metric      LowCardinality(String),
    value       Float64 CODEC(ZSTD(1)),
    unit        LowCardinality(String),
    -- gauge, counter (grows from its sender's start), up_down_counter, or delta (a sum since the sample before)
    kind        LowCardinality(String),
    service     LowCardinality(String),
    host        LowCardinality(String),
    -- the device's type where the sample is about a processor or an accelerator, else that of its sender
    hardware    LowCardinality(String),
    hw_id       LowCardinality(String),
    hw_type     LowCardinality(String),
    run         LowCardinality(String),
    region      LowCardinality(String),
    environment LowCardinality(String),
    version     LowCardinality(String),
    pid         UInt64 CODEC(ZSTD(1)),
    attributes  Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    resource    Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    scope_name  LowCardinality(String)
)
ENGINE = MergeTree
PARTITION BY toDate(received_at)
-- A question names the metric and a window of time; within an hour the samples of one device lie together.
ORDER BY (metric, toStartOfHour(time), host, service, hw_id, time)
TTL toDateTime(received_at) + INTERVAL 30 DAY
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = 10000;

-- Where OTLP metrics enter: as otlp_traces_in, a table that keeps nothing and mirrors ExportMetricsServiceRequest.
CREATE TABLE IF NOT EXISTS otlp_metrics_in
(
    received_unix_nano UInt64,
    resource_metrics Array(Tuple(
        resource Tuple(attributes Array(Tuple(key String, value {{any_value}}))),
        scope_metrics Array(Tuple(
            scope Tuple(name String, version String),
            metrics Array(Tuple(
                name String,
                unit String,
                gauge Tuple(data_points Array({{number_data_point}})),
                sum Tuple(data_points Array({{number_data_point}}), aggregation_temporality Int32, is_monotonic Bool)
            ))
        ))
    ))
)
ENGINE = Null;

-- Which metrics are about a device or a host, and not about requests? Those of OpenTelemetry's semantic conventions,
-- NVIDIA's DCGM exporter, and Triton's own about its GPUs. The collector asks the same (tailsight_collector/receive/points.py).
CREATE OR REPLACE FUNCTION tailsight_is_device_metric AS (name) ->
    match(name, '^((hw|system|process|container|gpu|nvidia)[.]|gpu_|nvidia_|DCGM_|nv_gpu_|nv_cpu_|nv_energy_)');

-- Can a sample be stored? The collector gives its clients the same answer with the reason, and a test holds the two
-- together. `flags` 1 is OTLP's "no recorded value".
CREATE OR REPLACE FUNCTION tailsight_is_storable_point AS (name, point_type, flags, value, time_ns, received_ns) ->
    tailsight_is_device_metric(name)
    AND point_type != 'unset' AND bitAnd(flags, 1) = 0
    AND isFinite(value)
    AND time_ns >= 946684800000000000
    AND time_ns <= received_ns + 86400000000000;

CREATE MATERIALIZED VIEW IF NOT EXISTS hardware_samples_from_otlp TO hardware_samples AS
SELECT
    fromUnixTimestamp64Nano(toInt64(received_ns), 'UTC') AS received_at,
    fromUnixTimestamp64Nano(toInt64(time_ns), 'UTC') AS time,
    metric,
    value,
    unit,
    kind,
    resource['service.name'] AS service,
    coalesce(nullIf(resource['host.name'], ''), attributes['Hostname']) AS host,
    coalesce(
        nullIf(attributes['tailsight.hardware'], ''),
        if(hw_type IN ('cpu', 'gpu'), coalesce(nullIf(attributes['hw.model'], ''), nullIf(attributes['hw.name'], ''),
            nullIf(attributes['modelName'], '')), NULL),
        resource['tailsight.hardware']) AS hardware,
    coalesce(nullIf(attributes['hw.id'], ''), nullIf(attributes['UUID'], ''), attributes['gpu_uuid']) AS hw_id,
    multiIf(
        attributes['hw.type'] != '', attributes['hw.type'],
        match(metric, '^(hw[.]gpu[.]|gpu[._]|nvidia[._]|DCGM_|nv_gpu_|nv_energy_)'), 'gpu',
        match(metric, '^(hw[.]cpu[.]|system[.]cpu[.]|nv_cpu_)'), 'cpu',
        '') AS hw_type,
    resource['tailsight.run'] AS run,
    resource['cloud.region'] AS region,
    coalesce(nullIf(resource['deployment.environment.name'], ''), resource['deployment.environment']) AS environment,
    resource['service.version'] AS version,
    toUInt64OrZero(coalesce(nullIf(attributes['process.pid'], ''), resource['process.pid'])) AS pid,
    attributes,
    resource,
    scope_name
FROM
(
    SELECT
        received_ns,
        resource,
        scope_name,
        tupleElement(sample, 1) AS metric,
        tupleElement(sample, 2) AS unit,
        tupleElement(sample, 3) AS kind,
        tupleElement(sample, 4) AS point,
        point.time_unix_nano AS time_ns,
        if(point.value = 'as_int', toFloat64(point.as_int), point.as_double) AS value,
        tailsight_attribute_texts(point.attributes) AS attributes
    FROM
    (
        SELECT
            received_ns,
            resource,
            scope_name,
            arrayJoin(arrayConcat(
                arrayMap(p -> (metric.name, metric.unit, 'gauge', p), metric.gauge.data_points),
                arrayMap(p -> (metric.name, metric.unit, multiIf(
                    metric.sum.aggregation_temporality = 1, 'delta',
                    metric.sum.is_monotonic, 'counter',
                    'up_down_counter'), p), metric.sum.data_points))) AS sample
        FROM
        (
            SELECT
                received_ns,
                resource,
                toLowCardinality(scope_metrics.scope.name) AS scope_name,
                arrayJoin(scope_metrics.metrics) AS metric
            FROM
            (
                SELECT
                    received_ns,
                    tailsight_attribute_texts(resource_metrics.resource.attributes) AS resource,
                    arrayJoin(resource_metrics.scope_metrics) AS scope_metrics
                FROM
                (
                    SELECT
                        -- who inserts here without the collector's stamp gets the time of the insert
                        if(received_unix_nano = 0, toUInt64(toUnixTimestamp64Nano(now64(9))), received_unix_nano) AS received_ns,
                        arrayJoin(resource_metrics) AS resource_metrics
                    FROM otlp_metrics_in
                )
            )
        )
    )
    WHERE tailsight_is_storable_point(metric, point.value, point.flags,
        if(point.value = 'as_int', 0., point.as_double), time_ns, received_ns)
);
