"""ml_collections configs, one a file."""
