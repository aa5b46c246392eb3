"""A benchmark for `tailsight record`: so many requests through the sample pipeline of `tailsight demo`.

tailsight record -o base.otlp.zst -- python deploy/ci/sample_pipeline.py 400
"""

import os
import sys

from tailsight_cli.demo.pipeline import run_pipeline

# The pipeline names its collector itself; under `record` that is the recording's own receiver.
run_pipeline(
    os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"],
    requests=int(sys.argv[1]),
    run="sample",
    on_progress=lambda _: None,
)
