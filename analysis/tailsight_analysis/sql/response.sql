-- How long do requests take from when they should have started (`response`), and from when they did (`service`)? Of those
-- that say when they should have; a row each, and one more, `ignored`, of those that say what cannot be (see delay.sql).
SELECT
    counted,
    stored, estimated, quantiles_ns, max_ns, errors, beyond
FROM
(
    SELECT
        counted,
        {{weighted_latency}}
    FROM
    (
        SELECT tupleElement(timed, 1) AS counted, groupArray((tupleElement(timed, 2), weight, failed)) AS latencies
        FROM
        (
            SELECT
                weight, failed,
                arrayJoin(if(delay > 3600000000001, [('ignored', duration_ns)],
                    [('service', duration_ns), ('response', toUInt64(duration_ns + delay - 1))])) AS timed
            FROM ({{requests}})
            WHERE delay > 0
        )
        GROUP BY counted
    )
)
