-- Whom do calls say that they ask, by their own attributes? Of CLIENT and PRODUCER spans of the sampled requests, by
-- service and name: the callee, where they name only one.
SELECT service, name, any(target) AS callee
FROM
(
    SELECT
        s.service AS service, s.name AS name,
        multiIf(
            s.attributes['service.peer.name'] != '', s.attributes['service.peer.name'],
            s.attributes['peer.service'] != '', s.attributes['peer.service'],
            s.attributes['rpc.service'] != '', s.attributes['rpc.service'],
            s.attributes['server.address'] != '', s.attributes['server.address'],
            s.attributes['net.peer.name'] != '', s.attributes['net.peer.name'],
            extract(s.name, '^/?([A-Za-z_][\\w.]*[.][A-Za-z_]\\w*)/[A-Za-z_]\\w*$')) AS target
    FROM spans AS s
    WHERE {{around}} AND {{in_sample}} AND s.kind IN ('CLIENT', 'PRODUCER')
        AND s.trace_id IN (SELECT trace_id FROM ({{sampled}}))
)
WHERE target != ''
GROUP BY service, name
HAVING uniqUpTo(1)(target) = 1
