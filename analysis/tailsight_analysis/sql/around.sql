-- Fragment. Which spans may belong to a request of the window? Those that start within an hour of it, on both sides:
-- a request's spans start at most an hour before or after its entry span.
(s.start_time >= fromUnixTimestamp64Nano({since_ns:Int64} - 3600000000000, 'UTC')
    AND s.start_time < fromUnixTimestamp64Nano({until_ns:Int64} + 3600000000000, 'UTC'))
