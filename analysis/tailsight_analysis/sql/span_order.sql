-- Fragment. Which of several spans with one id comes first? One number: the caller's half before the callee's (Zipkin
-- gives both one id), then the earlier, then the longer. It holds, to be read back in requests.sql: the start in bits 190
-- to 253, the duration (inverted) from 126, the error at 125, the weight (a positive double, so 63 bits) from 62, and the delay.
bitOr(bitOr(
    bitShiftLeft(toUInt256({{half}}), 254),
    bitShiftLeft(toUInt256(toUInt64(toUnixTimestamp64Nano(s.start_time))), 190)), bitOr(bitOr(
    bitShiftLeft(toUInt256(bitNot(s.duration_ns)), 126),
    bitShiftLeft(toUInt256(s.status = 'ERROR'), 125)),
    if({weighted:UInt8} = 1 OR {intended:UInt8} = 1, bitOr(
        bitShiftLeft(toUInt256(reinterpretAsUInt64(s.weight)), 62),
        toUInt256({{delay}})), toUInt256(0))))
