-- For how many requests of each unit of a history is which operation the entry?
SELECT place, operation AS value, sum(stands_for) AS weight
FROM ({{history_entries}})
WHERE place > 0
GROUP BY place, value
ORDER BY place, value
