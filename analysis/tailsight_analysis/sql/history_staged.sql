-- Fragment. The spans of a history's stages.
{{within}} AND {{filters}} AND (empty({service:Array(String)}) OR s.service IN {service:Array(String)}) AND s.stage != ''
