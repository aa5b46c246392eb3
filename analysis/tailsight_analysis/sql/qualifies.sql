-- Fragment. Could this span be the entry span of a sampled request?
((s.duration_ns >= {tail_from_ns:UInt64} AND {{sample_key}} <= {tail_key:UInt64})
    OR (s.duration_ns BETWEEN {typical_from_ns:UInt64} AND {typical_to_ns:UInt64} AND {{sample_key}} <= {typical_key:UInt64}))
