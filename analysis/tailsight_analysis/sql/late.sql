-- Fragment. Did a span arrive more than a minute after its end? What SDKs send comes within seconds.
toUnixTimestamp64Milli(s.received_at) > intDiv(toUnixTimestamp64Nano(s.start_time) + toInt64(s.duration_ns), 1000000) + 60000
