-- Fragment. Does a sample match every filter? An empty list is no filter.
((empty({stage:Array(String)}) OR s.stage IN {stage:Array(String)})
    AND (empty({hardware:Array(String)}) OR s.hardware IN {hardware:Array(String)})
    AND (empty({version:Array(String)}) OR s.version IN {version:Array(String)})
    AND (empty({model:Array(String)}) OR s.model IN {model:Array(String)})
    AND (empty({run:Array(String)}) OR s.run IN {run:Array(String)})
    AND (empty({host:Array(String)}) OR s.host IN {host:Array(String)}))
