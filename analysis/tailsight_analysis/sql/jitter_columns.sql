-- Fragment. What is asked of each span for its jitter: its pair of stage and hardware, its stream (one service's stage on one
-- host), when and how long; its deadline, and the gaps between its stream's items, NaN where it does not say.
cityHash64(s.stage, s.hardware) AS code,
cityHash64(s.service, s.stage, s.hardware, s.host) AS stream,
toUnixTimestamp64Nano(s.start_time) AS start_ns,
s.duration_ns AS duration_ns,
{{jitter_attributes}}
