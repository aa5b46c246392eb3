-- Is this recording here already, with all of its samples?
SELECT count() > 0 AS is_kept FROM profiles WHERE id = {id:String}
