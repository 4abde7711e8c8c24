"""A deployment in YAML; see ``defs/videos/defs.yaml``."""
