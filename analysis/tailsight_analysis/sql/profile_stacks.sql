-- Which code ran in these stages? One row a stack, request, stage, state and recording, with its samples; one more than `most`
-- says that there are too many.
SELECT
    s.stack AS stack,
    if(s.trace_id = toFixedString('', 16), '', lower(hex(s.trace_id))) AS trace_id,
    s.stage AS stage,
    s.class AS class,
    s.run AS run,
    s.match AS match,
    s.state AS state,
    s.also AS also,
    s.profile AS profile,
    sum(s.count) AS samples,
    toUnixTimestamp64Nano(min(s.time)) AS first_ns,
    any(s.thread) AS thread
FROM profile_samples AS s
WHERE {{profile_scope}} AND (empty({class:Array(String)}) OR s.class IN {class:Array(String)})
GROUP BY stack, trace_id, stage, class, run, match, state, also, profile
ORDER BY samples DESC, first_ns, stack, trace_id
LIMIT {most:UInt32}
