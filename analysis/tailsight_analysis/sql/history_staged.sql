-- Fragment. The spans that a history or a gate counts: those of stages.
{{within}} AND {{filters}} AND (empty({service:Array(String)}) OR s.service IN {service:Array(String)}) AND s.stage != ''
