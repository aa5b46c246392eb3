-- How long did the requests of a service take? One row a request; `weight` is for how many it stands, `chosen` tells whether it
-- was kept for what it is (slow, failed) and not by the rate alone.
SELECT lower(hex(id)) AS trace_id, duration_ns, weight, chosen
FROM
(
    SELECT
        q.trace_id AS id,
        max(q.duration_ns) AS duration_ns,
        max(q.weight) AS weight,
        id IN (SELECT s.trace_id FROM spans AS s WHERE {{within}} AND s.sampling_reason NOT IN ('', 'rate')) AS chosen
    FROM ({{requests}}) AS q
    GROUP BY id
)
