-- Fragment. The cells of `of_span`, which has a row a span (gate_span.sql) with `step`, how long the input of its trace's request was,
-- and `stands_for`, how many spans it is one of. A row a cell.
SELECT
    place,
    kind,
    any(its_stage) AS stage,
    any(its_hardware) AS hardware,
    any(its_name) AS name,
    any(its_model) AS model,
    step,
    {{history_block}} AS block,
    {{history_code}} AS code,
    toInt64(count()) AS counts,
    sum(stands_for) AS weights,
    sum(stands_for * stands_for) AS weights2
FROM of_span
WHERE place > 0
GROUP BY place, kind, step, block, code
