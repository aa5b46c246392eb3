-- Fragment. How much later than intended did a span start? In nanoseconds, plus 1; 0 where it does not say; 2^61 where what
-- it says cannot be: more than an hour before its start, or no number. An intended start after the start is no delay.
multiIf(
    s.intended_start_ns = 0, 0,
    s.intended_start_ns >= toUInt64(toUnixTimestamp64Nano(s.start_time)), 1,
    toUInt64(toUnixTimestamp64Nano(s.start_time)) - s.intended_start_ns > 3600000000000, 2305843009213693952,
    1 + toUInt64(toUnixTimestamp64Nano(s.start_time)) - s.intended_start_ns)
