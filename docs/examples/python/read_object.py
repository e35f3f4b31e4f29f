"""Print the lines of an object.

python read_object.py my-bucket test/2026/11/24/16/2026-11-24-16-32-02-8f25….gz
"""

import gzip
import os
import sys

import botocore.session

bucket, key = sys.argv[1:]
# Without the variable, or with an empty one: AWS.
s3 = botocore.session.Session().create_client(
    "s3",
    endpoint_url=os.environ.get("S3_ENDPOINT_URL") or None,
    region_name=os.environ.get("AWS_REGION", "us-east-1"),
)
content = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
sys.stdout.write(gzip.decompress(content).decode())
