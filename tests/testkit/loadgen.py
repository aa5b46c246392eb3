"""A trace that MLPerf LoadGen wrote (6.0.17: Server, four queries, token latencies), and what it said of that test.

Taken from a test on a development machine, with most events of LoadGen's own threads left out; the rest is verbatim.
"""

# its detail log's results of the same test
MIN_LATENCY_NS, MEAN_LATENCY_NS, MAX_LATENCY_NS = 349_882_025, 369_083_317, 387_678_659
MIN_FIRST_TOKEN_NS, MEAN_FIRST_TOKEN_NS, MAX_FIRST_TOKEN_NS = 342_755_452, 364_872_632, 384_453_862
# otherData.ts, in ns
ORIGIN_NS = 1_795_401_834_466_237_750
# scheduled (ns since the origin), issued, first token and complete (ns since then), by sample_seq
SAMPLES = {
    0: (72_348, 191, 384_453_862, 387_678_659),
    1: (9_057_951, 426_779, 375_417_924, 378_713_456),
    2: (27_653_993, 7_835_743, 356_863_293, 360_059_128),
    3: (47_169_446, 13_603_299, 342_755_452, 349_882_025),
}
TRACE = """\
{"traceEvents":[
{"name":"GenerateLoadableSets","ph":"X","pid":25120,"tid":25120,"ts":29.815,"dur":4.146,"args":{}},
{"name":"GenerateQueries","ph":"X","pid":25120,"tid":25120,"ts":59.579,"dur":10.866,"args":{}},
{"name":"IssueQuery","ph":"X","pid":25120,"tid":25120,"ts":72.699,"dur":18.788,"args":{}},
{"name":"IssueQuery","ph":"X","pid":25120,"tid":25120,"ts":9488.044,"dur":13991.037,"args":{}},
{"name":"LogDetail","ph":"X","pid":25120,"tid":25125,"ts":24988.571,"dur":12.439,"args":{"key":""loadgen_version""}},
{"name":"LogDetail","ph":"X","pid":25120,"tid":25125,"ts":25001.771,"dur":0.691,"args":{"key":""loadgen_build_date_local""}},
{"name":"IssueQuery","ph":"X","pid":25120,"tid":25120,"ts":35494.393,"dur":25276.480,"args":{}},
{"name":"IssueQuery","ph":"X","pid":25120,"tid":25120,"ts":60773.036,"dur":3.825,"args":{}},
{"name":"Token_Latency","ph": "C","pid":25120,"ts":9057.951,"args":{ "issue_delay":426779,"issue_to_done":374991145}},
{"name":"FirstTokenComplete","ph":"X","pid":25120,"tid":25123,"ts":384475.905,"dur":18.457,"args":{}},
{"name":"Latency","ph": "C","pid":25120,"ts":9057.951,"args":{ "issue_delay":426779,"issue_to_done":378286677}},
{"name":"Sample","cat":"default","ph":"b","pid":25120,"id":1,"ts":9057.951,"args":{"sample_seq":1,"query_seq":1,"sample_idx":18,"issue_start_ns":426779,"complete_ns":378713456}},
{"name":"Sample","cat":"default","ph":"e", "pid":25120,"id":1,"ts":387771.407},
{"name":"QuerySamplesComplete","ph":"X","pid":25120,"tid":25123,"ts":387771.437,"dur":0.922,"args":{}},
{"name":"Token_Latency","ph": "C","pid":25120,"ts":27653.993,"args":{ "issue_delay":7835743,"issue_to_done":349027550}},
{"name":"FirstTokenComplete","ph":"X","pid":25120,"tid":25124,"ts":384517.307,"dur":5.818,"args":{}},
{"name":"Latency","ph": "C","pid":25120,"ts":27653.993,"args":{ "issue_delay":7835743,"issue_to_done":352223385}},
{"name":"Sample","cat":"default","ph":"b","pid":25120,"id":2,"ts":27653.993,"args":{"sample_seq":2,"query_seq":2,"sample_idx":22,"issue_start_ns":7835743,"complete_ns":360059128}},
{"name":"Sample","cat":"default","ph":"e", "pid":25120,"id":2,"ts":387713.121},
{"name":"QuerySamplesComplete","ph":"X","pid":25120,"tid":25124,"ts":387713.151,"dur":6.249,"args":{}},
{"name":"Token_Latency","ph": "C","pid":25120,"ts":47169.446,"args":{ "issue_delay":13603299,"issue_to_done":329152153}},
{"name":"FirstTokenComplete","ph":"X","pid":25120,"tid":25124,"ts":389924.938,"dur":3.755,"args":{}},
{"name":"Token_Latency","ph": "C","pid":25120,"ts":72.348,"args":{ "issue_delay":191,"issue_to_done":384453671}},
{"name":"FirstTokenComplete","ph":"X","pid":25120,"tid":25122,"ts":384526.240,"dur":9.254,"args":{}},
{"name":"Latency","ph": "C","pid":25120,"ts":72.348,"args":{ "issue_delay":191,"issue_to_done":387678468}},
{"name":"Sample","cat":"default","ph":"b","pid":25120,"id":0,"ts":72.348,"args":{"sample_seq":0,"query_seq":0,"sample_idx":27,"issue_start_ns":191,"complete_ns":387678659}},
{"name":"Sample","cat":"default","ph":"e", "pid":25120,"id":0,"ts":387751.007},
{"name":"QuerySamplesComplete","ph":"X","pid":25120,"tid":25122,"ts":387751.037,"dur":1.713,"args":{}},
{"name":"Latency","ph": "C","pid":25120,"ts":47169.446,"args":{ "issue_delay":13603299,"issue_to_done":336278726}},
{"name":"Sample","cat":"default","ph":"b","pid":25120,"id":3,"ts":47169.446,"args":{"sample_seq":3,"query_seq":3,"sample_idx":13,"issue_start_ns":13603299,"complete_ns":349882025}},
{"name":"Sample","cat":"default","ph":"e", "pid":25120,"id":3,"ts":397051.471},
{"name":"QuerySamplesComplete","ph":"X","pid":25120,"tid":25124,"ts":397051.511,"dur":9.945,"args":{}},
{"name":"LastTrace"}
],
"displayTimeUnit":"ns",
"otherData":{
"ts":1795401834466237.750,
"version":"MLPerf LoadGen v1.0"
}
}
"""

# Lines of a detail log of 5.1 (not of this test).
DETAIL = """\
:::MLLOG {"key": "loadgen_version", "value": "5.1.0 @ 091d51f041", "time_ms": 0.007, "namespace": "mlperf::logging", "event_type": "POINT_IN_TIME", "metadata": {"is_error": false, "is_warning": false, "file": "version.cc", "line_no": 53, "pid": 6969, "tid": 6969}}
:::MLLOG {"key": "test_datetime", "value": "2025-07-31T09:43:18Z", "time_ms": 0.014, "namespace": "mlperf::logging", "event_type": "POINT_IN_TIME", "metadata": {"pid": 6969, "tid": 6969}}
:::MLLOG {"key": "effective_scenario", "value": "Server", "time_ms": 0.021, "namespace": "mlperf::logging", "event_type": "POINT_IN_TIME", "metadata": {"pid": 6969, "tid": 6969}}
:::MLLOG {"key": "early_stopping_result", "value": ""a quote that nobody escaped"", "time_ms": 1.0, "namespace": "mlperf::logging"}
:::MLLOG {"key": "result_validity", "value": "VALID", "time_ms": 852064.781, "namespace": "mlperf::logging", "event_type": "POINT_IN_TIME", "metadata": {"pid": 6969, "tid": 6969}}
:::MLLOG {"key": "result_query_count", "value": 24576, "time_ms": 852064.781, "namespace": "mlperf::logging", "event_type": "POINT_IN_TIME", "metadata": {"pid": 6969, "tid": 6969}}
"""
