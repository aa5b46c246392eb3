-- How does an alert stand now? One row: at its begin, at a repetition, and when it is resolved.
INSERT INTO alerts
SELECT
    fromUnixTimestamp64Milli({at_ms:Int64}, 'UTC'), {alert:String}, {status:String}, {rule:String}, {kind:String},
    {severity:String}, mapFromArrays({label_names:Array(String)}, {label_values:Array(String)}), {filters:String},
    fromUnixTimestamp64Milli({since_ms:Int64}, 'UTC'), fromUnixTimestamp64Milli({fired_ms:Int64}, 'UTC'),
    {value:Float64}, {limit_value:Float64}, {unit:String}, {text:String}
