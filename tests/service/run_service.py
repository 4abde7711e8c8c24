"""Runs the service with any of its settings, given as JSON; prints its URL."""

from __future__ import annotations

import json
import logging
import sys

from rekognition_dagster.service import serve

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    serve(**json.loads(sys.argv[1]), on_ready=lambda url: print(url, flush=True))
