"""Parquet tables: schemas, an atomic streaming writer, DuckDB over them. No Dagster, no boto3."""

from __future__ import annotations

from rekognition_dagster.lake.lake import Lake
from rekognition_dagster.lake.storage import Storage
from rekognition_dagster.lake.tables import TABLES, Table
from rekognition_dagster.lake.writer import TableWriter

__all__ = ["TABLES", "Lake", "Storage", "Table", "TableWriter"]
