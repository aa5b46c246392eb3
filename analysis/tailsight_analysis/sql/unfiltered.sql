-- Fragment. Is there no filter, apart from the service's?
(empty({stage:Array(String)}) AND empty({hardware:Array(String)}) AND empty({version:Array(String)})
    AND empty({model:Array(String)}) AND empty({run:Array(String)}) AND empty({host:Array(String)})
    AND empty({region:Array(String)}))
