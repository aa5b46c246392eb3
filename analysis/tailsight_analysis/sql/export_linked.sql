-- Which spans does a link of a span in this time point to? At most `most` of them, by trace and span id in hex.
SELECT DISTINCT lower(hex(linked.1)) AS trace_id, lower(hex(linked.2)) AS span_id
FROM
(
    SELECT arrayJoin(arrayZip(s.`links.trace_id`, s.`links.span_id`)) AS linked
    FROM spans AS s
    WHERE s.start_time >= fromUnixTimestamp64Nano({first_ns:Int64}, 'UTC')
        AND s.start_time <= fromUnixTimestamp64Nano({last_ns:Int64}, 'UTC')
        AND toStartOfMinute(s.start_time) >= toDateTime(greatest(intDiv({first_ns:Int64}, 1000000000) - 60, 0), 'UTC')
        AND toStartOfMinute(s.start_time) <= toDateTime(least(intDiv({last_ns:Int64}, 1000000000), 4294967295), 'UTC')
)
LIMIT {most:UInt64}
