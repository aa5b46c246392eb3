-- How is an OTLP AnyValue kept in a Map(…, String)? As text, with its type beside it in a second map wherever it is not
-- a string, so that 0, "0", false, "" and unset stay apart. Arrays and maps become JSON text.

-- (tupleElement and not v.type: a function's parameter is replaced only where it stands alone.)

-- 1.0 stays a float in JSON; what JSON has no number for is a string, as in OTLP/JSON.
CREATE OR REPLACE FUNCTION tailsight_json_double AS (x) -> multiIf(
    NOT isFinite(x), toJSONString(toString(x)),
    match(toString(x), '[.e]'), toString(x),
    concat(toString(x), '.0'));

-- Scalars inside arrays and maps; what lies deeper than two levels keeps its encoded bytes.
CREATE OR REPLACE FUNCTION tailsight_innermost_json AS (v) -> multiIf(
    tupleElement(v, 'type') = 'string', toJSONString(tupleElement(v, 'string_value')),
    tupleElement(v, 'type') = 'int', toString(tupleElement(v, 'int_value')),
    tupleElement(v, 'type') = 'double', tailsight_json_double(tupleElement(v, 'double_value')),
    tupleElement(v, 'type') = 'bool', if(tupleElement(v, 'bool_value'), 'true', 'false'),
    tupleElement(v, 'type') = 'bytes', concat('{"$bytes":"', base64Encode(tupleElement(v, 'bytes_value')), '"}'),
    tupleElement(v, 'type') = 'array', concat('{"$array":"', base64Encode(tupleElement(v, 'array_value')), '"}'),
    tupleElement(v, 'type') = 'kvlist', concat('{"$kvlist":"', base64Encode(tupleElement(v, 'kvlist_value')), '"}'),
    'null');

CREATE OR REPLACE FUNCTION tailsight_inner_json AS (v) -> multiIf(
    tupleElement(v, 'type') = 'string', toJSONString(tupleElement(v, 'string_value')),
    tupleElement(v, 'type') = 'int', toString(tupleElement(v, 'int_value')),
    tupleElement(v, 'type') = 'double', tailsight_json_double(tupleElement(v, 'double_value')),
    tupleElement(v, 'type') = 'bool', if(tupleElement(v, 'bool_value'), 'true', 'false'),
    tupleElement(v, 'type') = 'bytes', concat('{"$bytes":"', base64Encode(tupleElement(v, 'bytes_value')), '"}'),
    tupleElement(v, 'type') = 'array', concat('[', arrayStringConcat(arrayMap(i -> tailsight_innermost_json(i), tupleElement(tupleElement(v, 'array_value'), 'values')), ','), ']'),
    tupleElement(v, 'type') = 'kvlist', concat('{', arrayStringConcat(arrayMap(i -> concat(toJSONString(i.key), ':', tailsight_innermost_json(i.value)), tupleElement(tupleElement(v, 'kvlist_value'), 'values')), ','), '}'),
    'null');

CREATE OR REPLACE FUNCTION tailsight_any_value_text AS (v) -> multiIf(
    tupleElement(v, 'type') = 'string', tupleElement(v, 'string_value'),
    tupleElement(v, 'type') = 'int', toString(tupleElement(v, 'int_value')),
    tupleElement(v, 'type') = 'double', toString(tupleElement(v, 'double_value')),
    tupleElement(v, 'type') = 'bool', if(tupleElement(v, 'bool_value'), 'true', 'false'),
    tupleElement(v, 'type') = 'bytes', base64Encode(tupleElement(v, 'bytes_value')),
    tupleElement(v, 'type') = 'array', concat('[', arrayStringConcat(arrayMap(i -> tailsight_inner_json(i), tupleElement(tupleElement(v, 'array_value'), 'values')), ','), ']'),
    tupleElement(v, 'type') = 'kvlist', concat('{', arrayStringConcat(arrayMap(i -> concat(toJSONString(i.key), ':', tailsight_inner_json(i.value)), tupleElement(tupleElement(v, 'kvlist_value'), 'values')), ','), '}'),
    '');

CREATE OR REPLACE FUNCTION tailsight_attribute_texts AS (kvs) -> mapFromArrays(
    CAST(arrayMap(a -> a.key, kvs), 'Array(LowCardinality(String))'),
    arrayMap(a -> tailsight_any_value_text(a.value), kvs));

CREATE OR REPLACE FUNCTION tailsight_attribute_types AS (kvs) -> mapFromArrays(
    CAST(arrayMap(a -> a.key, arrayFilter(a -> a.value.type != 'string', kvs)), 'Array(LowCardinality(String))'),
    CAST(arrayMap(a -> toString(a.value.type), arrayFilter(a -> a.value.type != 'string', kvs)), 'Array(LowCardinality(String))'));
