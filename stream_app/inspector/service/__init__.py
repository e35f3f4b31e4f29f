"""Data sources of the routes: both topics, configuration, S3 and expressions, without HTTP."""
