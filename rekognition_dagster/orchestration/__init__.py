"""Dagster: resources, partitions, assets, sensors, schedules, checks, backfill, component."""
