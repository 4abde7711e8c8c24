"""What the deployment is made of: a folder each, with a defs.yaml."""
