"""S3 through aiobotocore, which only this room imports, without decisions about windows."""
