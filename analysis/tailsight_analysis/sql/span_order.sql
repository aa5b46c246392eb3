-- Fragment. Which of several spans with one id comes first? One number: the caller's half before the callee's (Zipkin
-- gives both one id), then the earlier, then the longer. It holds the start, the duration and the error, to be read back.
bitOr(bitOr(
    bitShiftLeft(toUInt256(multiIf(s.kind IN ('CLIENT', 'PRODUCER'), 0, s.kind IN ('SERVER', 'CONSUMER'), 2, 1)), 192),
    bitShiftLeft(toUInt256(toUInt64(toUnixTimestamp64Nano(s.start_time))), 128)), bitOr(
    bitShiftLeft(toUInt256(bitNot(s.duration_ns)), 64),
    toUInt256(s.status = 'ERROR')))
