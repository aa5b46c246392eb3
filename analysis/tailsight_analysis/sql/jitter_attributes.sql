-- Fragment. A span's deadline in ms, and the gaps between its stream's items in ms; NaN where it does not say.
arrayMap({{number}}, [s.attributes['tailsight.deadline_ms']])[1] AS deadline_ms,
arrayMap({{number}}, [s.attributes['tailsight.stream.gap_p50_ms']])[1] AS gap_p50_ms,
arrayMap({{number}}, [s.attributes['tailsight.stream.gap_p99_ms']])[1] AS gap_p99_ms,
arrayMap({{number}}, [s.attributes['tailsight.stream.gap_max_ms']])[1] AS gap_max_ms
