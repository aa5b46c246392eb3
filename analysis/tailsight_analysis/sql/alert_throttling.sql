-- Which devices said how often that something holds their clocks down? One row a host and device. `hw.gpu.throttled` is 0 or 1;
-- where a metric is NVIDIA's mask of reasons, an idle GPU (bit 0) and clocks that the user has set (bit 1) hold nothing down.
SELECT
    host,
    hw_id,
    max(hardware) AS device,
    count() AS samples,
    countIf(if(match(metric, '(?i)reason'), bitAnd(toUInt64(greatest(value, 0)), 0xFC) > 0, value > 0)) AS throttled,
    arrayFilter(reason -> reason != '', groupUniqArray(20)(attributes['hw.gpu.throttle_reasons'])) AS reasons
FROM hardware_samples
WHERE time >= fromUnixTimestamp64Nano({since_ns:Int64}, 'UTC') AND time < fromUnixTimestamp64Nano({until_ns:Int64}, 'UTC')
    AND match(metric, '(?i)throttl') AND kind = 'gauge'
    AND (empty({service:Array(String)}) OR service IN {service:Array(String)})
    AND (empty({hardware:Array(String)}) OR hardware IN {hardware:Array(String)})
    AND (empty({version:Array(String)}) OR version IN {version:Array(String)})
    AND (empty({run:Array(String)}) OR run IN {run:Array(String)})
    AND (empty({host:Array(String)}) OR host IN {host:Array(String)})
    AND (empty({region:Array(String)}) OR region IN {region:Array(String)})
GROUP BY host, hw_id
ORDER BY host, hw_id
LIMIT 10000
