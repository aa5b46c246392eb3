-- Fragment. Which cell is a duration of a history counted in? As cell_code.sql, each unit with a shift of its own.
bitShiftRight(reinterpretAsUInt64(toFloat64(duration_ns)), {units_shift:Array(UInt8)}[place])
