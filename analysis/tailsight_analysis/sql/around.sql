-- Fragment. Which spans may belong to a request of the window? Those that start within an hour of it, on both sides:
-- a request's spans start at most an hour before or after its entry span. The minutes: see within.sql.
(s.start_time >= fromUnixTimestamp64Nano({since_ns:Int64} - 3600000000000, 'UTC')
    AND s.start_time < fromUnixTimestamp64Nano({until_ns:Int64} + 3600000000000, 'UTC')
    AND toStartOfMinute(s.start_time) >= toDateTime(greatest(intDiv({since_ns:Int64}, 1000000000) - 3660, 0), 'UTC')
    AND toStartOfMinute(s.start_time) <= toDateTime(least(intDiv({until_ns:Int64}, 1000000000) + 3600, 4294967295), 'UTC'))
