-- Is this report here already?
SELECT count() > 0 AS is_kept FROM gate_reports WHERE id = {id:String}
