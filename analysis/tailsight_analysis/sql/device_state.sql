-- In which state were the devices of each host, and when? One row a metric, host and moment, a second long or a thousandth of the
-- window; of several devices the state that holds most back: the lowest clock, the highest of everything else.
SELECT
    metric, host,
    min(toUnixTimestamp64Nano(time)) AS time_ns,
    if(match(metric, '(?i)(clock|frequency)'), min(value), max(value)) AS value
FROM hardware_samples
WHERE time >= fromUnixTimestamp64Nano({since_ns:Int64} - 300000000000, 'UTC')
    AND time < fromUnixTimestamp64Nano({until_ns:Int64} + 3600000000000, 'UTC')
    AND host != '' AND kind IN ('gauge', 'up_down_counter') AND NOT startsWith(metric, 'process.')
    AND match(metric, '(?i)(throttl|temp|clock|frequency|power|util)')
GROUP BY metric, host, intDiv(toUnixTimestamp64Nano(time), {moment_ns:Int64})
ORDER BY metric, host, time_ns
LIMIT 2000000
