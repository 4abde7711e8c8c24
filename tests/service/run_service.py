"""Runs the service with any of its settings, given as JSON; prints its URL."""

from __future__ import annotations

import json
import sys

from rekognition_dagster.service import serve
from rekognition_dagster.service.logs import configure

if __name__ == "__main__":
    configure("json")
    serve(**json.loads(sys.argv[1]), on_ready=lambda url: print(url, flush=True))
