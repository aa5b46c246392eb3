-- Fragment. Is a span one of a stage, in a service that has `queue` spans?
{{within}} AND {{filters}} AND (empty({service:Array(String)}) OR s.service IN {service:Array(String)})
    AND s.stage != '' AND s.service IN (SELECT s.service FROM spans AS s WHERE {{within}} AND s.stage = 'queue')
