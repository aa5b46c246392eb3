-- Does any span around the window stand for more than itself (a sampling weight), or say when it should have started? Where
-- none does, the index of both columns answers, and no question pays for what is not there.
SELECT
    (SELECT count() > 0 FROM (SELECT 1 FROM spans AS s WHERE {{around}} AND s.weight > 1 LIMIT 1)) AS weighted,
    (SELECT count() > 0 FROM (SELECT 1 FROM spans AS s WHERE {{around}} AND s.intended_start_ns > 0 LIMIT 1)) AS intended
