-- Which hardware and which model did the spans of each unit of a history have, and how many? Spans without one are left out.
SELECT place, kind, value, count() AS spans
FROM
(
    SELECT
        {{history_place}} AS place,
        arrayJoin([('hardware', toString(s.hardware)), ('model', toString(s.model))]) AS pair,
        tupleElement(pair, 1) AS kind,
        tupleElement(pair, 2) AS value
    FROM spans AS s
    WHERE {{within}} AND {{filters}} AND (empty({service:Array(String)}) OR s.service IN {service:Array(String)})
)
WHERE place > 0 AND value != ''
GROUP BY place, kind, value
ORDER BY place, kind, value
