-- What does a store need that is filled once, asked a few times and thrown away? The spans as they came, without roll-ups, sorting,
-- index, merging and dense packing, and only the columns that say what a span was and how long it took: to insert
-- them costs a fourth.
DROP TABLE stage_latency_1m_from_spans;
DROP TABLE stage_weight_1m_from_spans;
DROP TABLE rejected_spans_from_arrivals;
-- on the way through memory, whose engine can drop columns that are a key elsewhere
CREATE TABLE spans_alike AS spans ENGINE = Memory;
ALTER TABLE spans_alike
    DROP COLUMN received_at, DROP COLUMN resource, DROP COLUMN resource_types, DROP COLUMN attribute_types,
    DROP COLUMN scope_version, DROP COLUMN scope_attributes, DROP COLUMN events, DROP COLUMN links,
    DROP COLUMN status_message, DROP COLUMN trace_state, DROP COLUMN thread_id, DROP COLUMN environment,
    MODIFY COLUMN start_time REMOVE CODEC, MODIFY COLUMN duration_ns REMOVE CODEC,
    MODIFY COLUMN trace_id REMOVE CODEC, MODIFY COLUMN span_id REMOVE CODEC, MODIFY COLUMN parent_span_id REMOVE CODEC,
    MODIFY COLUMN attributes REMOVE CODEC, MODIFY COLUMN weight REMOVE CODEC, MODIFY COLUMN intended_start_ns REMOVE CODEC;
DROP TABLE spans;
-- no merge is small enough to be made
CREATE TABLE spans AS spans_alike ENGINE = MergeTree ORDER BY tuple() SETTINGS max_bytes_to_merge_at_max_space_in_pool = 1;
DROP TABLE spans_alike;
