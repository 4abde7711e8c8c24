"""Measurements beside what they are compared with; see each module."""
