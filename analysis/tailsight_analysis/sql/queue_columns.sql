-- Fragment. What is asked of a span of a service with a queue: ids as numbers, NaN where it says no batch size or depth.
s.service AS service,
s.host AS host,
s.stage AS stage,
reinterpretAsUInt64(substring(s.trace_id, 1, 8)) AS trace_first,
reinterpretAsUInt64(substring(s.trace_id, 9, 8)) AS trace_last,
reinterpretAsUInt64(s.span_id) AS span,
toUnixTimestamp64Nano(s.start_time) AS start_ns,
s.duration_ns AS duration_ns,
arrayMap({{number}}, [s.attributes['tailsight.batch.size']])[1] AS batch_size,
if(s.stage = 'queue', arrayMap({{number}}, [s.attributes['tailsight.queue.depth']])[1], nan) AS depth
