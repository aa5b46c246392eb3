-- Fragment. Does a span start in the window? The minutes say it a second time, for they are what the table is sorted by: the
-- engine does not see by itself that a window of time is a range of them, and would read all of the table.
(s.start_time >= fromUnixTimestamp64Nano({since_ns:Int64}, 'UTC')
    AND s.start_time < fromUnixTimestamp64Nano({until_ns:Int64}, 'UTC')
    AND toStartOfMinute(s.start_time) >= toDateTime(greatest(intDiv({since_ns:Int64}, 1000000000) - 60, 0), 'UTC')
    AND toStartOfMinute(s.start_time) <= toDateTime(least(intDiv({until_ns:Int64}, 1000000000), 4294967295), 'UTC'))
