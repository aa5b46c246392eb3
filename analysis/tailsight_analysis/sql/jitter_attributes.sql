-- Fragment. A span's deadline in ms, and the gaps between its stream's items in ms; NaN where it does not say.
ifNull(toFloat64OrNull(s.attributes['tailsight.deadline_ms']), nan) AS deadline_ms,
ifNull(toFloat64OrNull(s.attributes['tailsight.stream.gap_p50_ms']), nan) AS gap_p50_ms,
ifNull(toFloat64OrNull(s.attributes['tailsight.stream.gap_p99_ms']), nan) AS gap_p99_ms,
ifNull(toFloat64OrNull(s.attributes['tailsight.stream.gap_max_ms']), nan) AS gap_max_ms
