-- Fragment. The requests of the window with what their entry spans say: unit of the history (its place in `units`, from 1),
-- operation, start, duration and weight. A row a request.
SELECT
    e.place AS place, e.operation AS operation,
    r.start_ns AS start_ns, r.duration_ns AS duration_ns, r.weight AS stands_for
FROM ({{requests}}) AS r
INNER JOIN
(
    SELECT s.trace_id AS trace_id, s.span_id AS span_id, any({{history_place}}) AS place, any(toString(s.name)) AS operation
    FROM spans AS s
    WHERE {{within}} AND ({plain:UInt8} = 0 OR s.parent_span_id = toFixedString('', 8))
        AND (empty({service:Array(String)}) OR s.service IN {service:Array(String)})
    GROUP BY trace_id, span_id
) AS e ON r.trace_id = e.trace_id AND r.span_id = e.span_id
