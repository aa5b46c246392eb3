-- What did a process run in a window? One row a span, in the order of time: what samples of its threads are joined to.
-- One more than `most` says that there are too many.
SELECT
    lower(hex(s.trace_id)) AS trace_id,
    lower(hex(s.span_id)) AS span_id,
    if(s.parent_span_id = toFixedString('', 8), '', lower(hex(s.parent_span_id))) AS parent_span_id,
    s.service AS service,
    s.stage AS stage,
    s.name AS name,
    s.thread_id AS thread_id,
    toUnixTimestamp64Nano(s.start_time) AS start_ns,
    toUnixTimestamp64Nano(s.start_time) + toInt64(least(s.duration_ns, 9000000000000000000)) AS end_ns,
    s.hardware AS hardware,
    s.version AS version,
    s.model AS model,
    s.run AS run,
    s.sampling_reason != '' OR s.weight > 1 AS sampled -- others of its kind were left out
FROM spans AS s
WHERE {{within}} AND s.host = {host:String} AND s.resource['process.pid'] = toString({pid:UInt64})
ORDER BY start_ns, span_id
LIMIT 1 BY trace_id, span_id
LIMIT {most:UInt32}
