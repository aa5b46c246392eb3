-- Fragment. Does a span's parent wait for it? Not for who consumes what it produced, nor for what says that it only follows
-- from it.
toUInt8(s.kind != 'CONSUMER' AND NOT arrayExists(
    (id, attributes) -> id = s.parent_span_id AND lower(attributes['opentracing.ref_type']) = 'follows_from',
    s.`links.span_id`, s.`links.attributes`))
