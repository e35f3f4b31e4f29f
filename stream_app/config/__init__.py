"""The operator's TOML file and environment as frozen settings, with every mistake at once."""
