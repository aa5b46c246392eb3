-- Of which stages of which services are there samples? One row each, those with the most first; of all requests, or of one.
SELECT
    s.stage AS stage,
    s.service AS service,
    sumIf(s.count, s.match != 'ambiguous') AS samples,
    sumIf(s.count, s.match = 'ambiguous') AS ambiguous,
    uniqExactArrayIf(arrayPushBack(s.also, lower(hex(s.trace_id))), s.match = 'exact') AS requests,
    arraySort(groupUniqArrayIf(1000)(s.run, s.run != '')) AS runs
FROM profile_samples AS s
WHERE s.time >= fromUnixTimestamp64Nano({since_ns:Int64}, 'UTC') AND s.time < fromUnixTimestamp64Nano({until_ns:Int64}, 'UTC')
    AND s.profile IN (SELECT p.id FROM profiles AS p)
    AND (s.match != 'none' OR s.profile IN (SELECT p.id FROM profiles AS p WHERE p.trigger = 'import'))
    AND (empty({service:Array(String)}) OR s.service IN {service:Array(String)})
    AND ({trace:String} = '' OR s.trace_id = unhex({trace:String}) OR has(s.also, {trace:String}))
    AND {{profile_filters}}
GROUP BY stage, service
ORDER BY samples DESC, stage, service
LIMIT 1000
