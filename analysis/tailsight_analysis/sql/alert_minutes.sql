-- How many spans does each minute have? From the roll-up: by which minutes have changed, and need to be read again.
SELECT toUnixTimestamp(minute) AS minute_s, sum(spans) AS spans
FROM stage_latency_1m
WHERE minute >= toDateTime({since_s:Int64}, 'UTC') AND minute < toDateTime({until_s:Int64}, 'UTC')
GROUP BY minute
HAVING spans > 0
