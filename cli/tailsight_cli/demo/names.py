"""What the demo's processes call themselves, and where they meet. Imports nothing, so that its parent stays light."""

from typing import Final

CLIENT_NAME: Final = "demo-client"
SERVICE_NAME: Final = "demo-inference"
VERSION: Final = "1.0.0"
MODEL_NAME: Final = "minilm-demo"

INFER_PATH: Final = "/v1/infer"
HEALTH_PATH: Final = "/healthz"
