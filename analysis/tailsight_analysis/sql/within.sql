-- Fragment. Does a span start in the window?
(s.start_time >= fromUnixTimestamp64Nano({since_ns:Int64}, 'UTC')
    AND s.start_time < fromUnixTimestamp64Nano({until_ns:Int64}, 'UTC'))
