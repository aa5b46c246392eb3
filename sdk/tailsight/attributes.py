"""Every attribute key that tailsight writes or reads, said once.

The keys that OpenTelemetry's semantic conventions define keep their names; the rest begin with `tailsight.`.
"""

from typing import Final

# --- resource: one value for the whole process ----------------------------------------------------------------------
SERVICE_NAME: Final = "service.name"
SERVICE_VERSION: Final = "service.version"
DEPLOYMENT_ENVIRONMENT: Final = "deployment.environment.name"
HOST_NAME: Final = "host.name"
CLOUD_REGION: Final = "cloud.region"
PROCESS_PID: Final = "process.pid"
TELEMETRY_SDK_NAME: Final = "telemetry.sdk.name"
TELEMETRY_SDK_LANGUAGE: Final = "telemetry.sdk.language"
TELEMETRY_SDK_VERSION: Final = "telemetry.sdk.version"
HW_TYPE: Final = "hw.type"  # "gpu" or "cpu"
HW_NAME: Final = "hw.name"
HW_VENDOR: Final = "hw.vendor"
RUN: Final = "tailsight.run"  # names one execution that is compared with another
# Also allowed on a span, for work done on another device than the process's own: the store prefers the span's.
HARDWARE: Final = "tailsight.hardware"

# --- span -----------------------------------------------------------------------------------------------------------
STAGE: Final = "tailsight.stage"
MODEL: Final = "tailsight.model"
BATCH_SIZE: Final = "tailsight.batch.size"
QUEUE_DEPTH: Final = "tailsight.queue.depth"
DEADLINE_MS: Final = "tailsight.deadline_ms"
INTENDED_START_UNIX_NANO: Final = "tailsight.intended_start_unix_nano"
THREAD_ID: Final = "thread.id"
CANCELLED: Final = "tailsight.cancelled"  # true: the work was cancelled from outside; not an error of the stage

SAMPLING_WEIGHT: Final = "tailsight.sampling.weight"  # of a kept request: for how many it stands; absent means 1
SAMPLING_REASON: Final = "tailsight.sampling.reason"  # why it was kept: error, slow, deadline or rate

# --- scope: what a sender says about itself with each batch -----------------------------------------------------------
SENDER_ID: Final = "tailsight.sender.id"  # 16 hexadecimal digits, random for each sender
SENDER_RECORDED: Final = "tailsight.sender.recorded"  # spans that the service recorded so far
SENDER_SPANS: Final = "tailsight.sender.spans"  # spans in batches so far, this one included
SENDER_DROPPED: Final = "tailsight.sender.dropped"  # spans dropped so far, by reason
SENDER_KEPT: Final = "tailsight.sender.kept"  # requests kept by sampling so far, by reason
SENDER_SAMPLED_OUT: Final = "tailsight.sender.sampled_out"  # requests not kept by sampling so far, by reason
SENDER_LAST: Final = "tailsight.sender.last"  # true: nothing comes after this batch
BATCH_NUMBER: Final = "tailsight.batch.number"  # 1, 2, 3, … without gaps
BATCH_SPANS: Final = "tailsight.batch.spans"
BATCH_PRIORITY: Final = "tailsight.batch.priority"  # high: with errors or slow requests; or normal

# --- span, streams --------------------------------------------------------------------------------------------------
TIME_TO_FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"  # seconds
STREAM_ITEMS: Final = "tailsight.stream.items"
STREAM_GAP_P50_MS: Final = "tailsight.stream.gap_p50_ms"
STREAM_GAP_P99_MS: Final = "tailsight.stream.gap_p99_ms"
STREAM_GAP_MAX_MS: Final = "tailsight.stream.gap_max_ms"
STREAM_ABANDONED: Final = "tailsight.stream.abandoned"  # true: the consumer closed the stream before its end

# --- span, calls between services -----------------------------------------------------------------------------------
ERROR_TYPE: Final = "error.type"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"
HTTP_REQUEST_METHOD: Final = "http.request.method"
HTTP_ROUTE: Final = "http.route"
HTTP_RESPONSE_STATUS_CODE: Final = "http.response.status_code"
HTTP_REQUEST_BODY_SIZE: Final = "http.request.body.size"  # bytes as they were sent: compressed, if they were
HTTP_RESPONSE_BODY_SIZE: Final = "http.response.body.size"
URL_PATH: Final = "url.path"
RPC_SYSTEM: Final = "rpc.system"
RPC_SERVICE: Final = "rpc.service"
RPC_METHOD: Final = "rpc.method"
RPC_GRPC_STATUS_CODE: Final = "rpc.grpc.status_code"
# OpenTelemetry has the sizes of single messages only, as events. These are the sums of a call, before compression.
RPC_REQUEST_SIZE: Final = "tailsight.rpc.request.size"
RPC_RESPONSE_SIZE: Final = "tailsight.rpc.response.size"

# --- event ----------------------------------------------------------------------------------------------------------
EXCEPTION_EVENT: Final = "exception"
EXCEPTION_TYPE: Final = "exception.type"
EXCEPTION_MESSAGE: Final = "exception.message"
EXCEPTION_STACKTRACE: Final = "exception.stacktrace"
