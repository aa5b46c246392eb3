-- What does one report say, by its id or the first digits of it? One row a report that these fit, two at most.
SELECT id, report
FROM gate_reports
WHERE startsWith(id, {id:String})
ORDER BY at DESC, id
LIMIT 1 BY id
LIMIT 2
