"""S3, SNS, SQS, the service and Dagster on loopback, for the demo, for development and for tests.

Nothing here is imported by the pipeline; it only sees endpoints and settings.
"""

from __future__ import annotations

from rekognition_dagster.stack.local import LocalStack
from rekognition_dagster.stack.processes import StackError

__all__ = ["LocalStack", "StackError"]
