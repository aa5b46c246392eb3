-- Fragment. Which requests start in the window? One row each: trace_id, span_id (of its entry span), start_ns,
-- duration_ns, failed (1 where the entry span's status is ERROR), weight (for how many requests it stands), delay (see
-- delay.sql). The last two only where the parameters `weighted` or `intended` ask for them. See docs/analysis/requests.md.
SELECT trace_id, span_id, start_ns, duration_ns, failed, weight, delay
FROM
(
    -- where every trace has a root and no span stands twice: the root spans
    SELECT
        s.trace_id AS trace_id,
        s.span_id AS span_id,
        toUnixTimestamp64Nano(s.start_time) AS start_ns,
        s.duration_ns AS duration_ns,
        toUInt8(s.status = 'ERROR') AS failed,
        if({weighted:UInt8} = 1, s.weight, 1.) AS weight,
        if({intended:UInt8} = 1, {{delay}}, 0) AS delay
    FROM spans AS s
    WHERE {plain:UInt8} = 1 AND {{within}} AND {{in_sample}} AND s.parent_span_id = toFixedString('', 8)
        AND ({every_trace:UInt8} = 1 OR {{qualifies}})

    UNION ALL

    SELECT
        trace_id,
        span_id,
        toInt64(toUInt64(bitShiftRight(entry, 190))) AS start_ns,
        bitNot(toUInt64(bitShiftRight(entry, 126))) AS duration_ns,
        bitAnd(toUInt8(bitShiftRight(entry, 125)), 1) AS failed,
        if({weighted:UInt8} = 1,
            reinterpretAsFloat64(bitAnd(toUInt64(bitShiftRight(entry, 62)), 0x7FFFFFFFFFFFFFFF)), 1.) AS weight,
        if({intended:UInt8} = 1, bitAnd(toUInt64(entry), 0x3FFFFFFFFFFFFFFF), 0) AS delay
    FROM
    (
        SELECT trace_id, span_id, min(entry) AS entry
        FROM
        (
            -- without a service: every root span
            SELECT s.trace_id AS trace_id, s.span_id AS span_id, {{span_order}} AS entry
            FROM spans AS s
            WHERE {plain:UInt8} = 0 AND empty({service:Array(String)}) AND {{within}} AND {{in_sample}} AND {{looked_at}}
                AND s.parent_span_id = toFixedString('', 8)

            UNION ALL

            -- and of a trace without any root span: the earliest span whose parent is not there, else the earliest
            SELECT trace_id, tupleElement(earliest, 1) AS span_id, tupleElement(earliest, 2) AS entry
            FROM
            (
                SELECT
                    s.trace_id AS trace_id,
                    argMin((s.span_id, {{span_order}}, {{within}}), (
                        s.parent_span_id != s.span_id AND (s.trace_id, s.parent_span_id) IN (
                            SELECT s.trace_id, s.span_id FROM spans AS s WHERE {{in_rootless_trace}}),
                        s.start_time, -toInt64(s.duration_ns), s.span_id, {{span_order}})) AS earliest
                FROM spans AS s
                WHERE {{in_rootless_trace}}
                GROUP BY trace_id
            )
            WHERE tupleElement(earliest, 3)

            UNION ALL

            -- with a service: its spans whose parent is not a span of it. Looked up by a hash of both ids: a set of 24 bytes each
            -- is several times as slow and as large; of 14 million spans two share a hash once in 100,000 times
            SELECT s.trace_id AS trace_id, s.span_id AS span_id, {{span_order}} AS entry
            FROM spans AS s
            WHERE notEmpty({service:Array(String)}) AND {{within}} AND {{in_sample}} AND {{looked_at}}
                AND s.service IN {service:Array(String)}
                AND (s.parent_span_id = toFixedString('', 8) OR s.parent_span_id = s.span_id
                    OR cityHash64(s.trace_id, s.parent_span_id) NOT IN (
                        SELECT cityHash64(s.trace_id, s.span_id) FROM spans AS s
                        WHERE notEmpty({service:Array(String)}) AND {{around}} AND {{in_sample}} AND {{looked_at}}
                            AND s.service IN {service:Array(String)}))
        )
        GROUP BY trace_id, span_id
    )
)
WHERE {{unfiltered}} OR trace_id IN (
    -- the other filters: a span somewhere in the trace matches all of them
    SELECT s.trace_id FROM spans AS s WHERE NOT {{unfiltered}} AND {{around}} AND {{in_sample}} AND {{filters}})
