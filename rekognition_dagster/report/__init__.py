"""The report: one page about days of cameras, with charts and pictures, that opens from disk.

``facts`` asks the lake, ``charts`` and ``stills`` make what people look at, ``page`` puts it
together. Nothing on the page runs, and nothing is loaded from elsewhere.
"""

from rekognition_dagster.report.build import Report, build_report, write_report
from rekognition_dagster.report.facts import Scope

__all__ = ["Report", "Scope", "build_report", "write_report"]
