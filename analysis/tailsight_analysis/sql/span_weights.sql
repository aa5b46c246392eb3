-- Fragment. Which requests of each service in each trace did its SDK decide to keep, and with which weights, in the order
-- of their start? A row a trace, service and library that recorded them.
SELECT
    s.trace_id AS trace_id,
    s.service AS service,
    s.scope_name AS scope_name,
    arraySort(groupArray((s.start_time, s.weight))) AS decisions
FROM spans AS s
WHERE {{around}} AND (s.weight > 1 OR s.sampling_reason != '')
GROUP BY trace_id, service, scope_name
