-- Fragment. In which order do a trace's spans stand? Those with one id in the order that makes each the child of the one
-- before (see docs/analysis/requests.md), and whatever else differs breaks ties, so that two questions see the same order.
s.span_id, {{half}}, s.start_time,
s.duration_ns DESC, s.stage, s.service, s.host, s.name, s.kind, s.status, s.parent_span_id, s.status_message, toString(s.attributes)
