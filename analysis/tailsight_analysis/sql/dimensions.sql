-- Fragment. Which group is a span of? Dimensions not asked for are ''.
if(has({by:Array(String)}, 'stage'), s.stage, '') AS by_stage,
if(has({by:Array(String)}, 'hardware'), s.hardware, '') AS by_hardware,
if(has({by:Array(String)}, 'service'), s.service, '') AS by_service,
if(has({by:Array(String)}, 'name'), s.name, '') AS by_name,
if(has({by:Array(String)}, 'version'), s.version, '') AS by_version,
if(has({by:Array(String)}, 'model'), s.model, '') AS by_model,
if(has({by:Array(String)}, 'region'), s.region, '') AS by_region,
if(has({by:Array(String)}, 'host'), s.host, '') AS by_host,
if(has({by:Array(String)}, 'run'), s.run, '') AS by_run
