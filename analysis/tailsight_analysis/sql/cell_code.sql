-- Fragment. Which cell is a duration counted in? The first bits of it as a double: 52 − cell_shift of them behind its power of
-- two, so that cells are equally wide in proportion. A shift of 0 keeps every duration apart.
bitShiftRight(reinterpretAsUInt64(toFloat64(duration_ns)), {cell_shift:UInt8})
