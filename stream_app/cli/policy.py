"""The command `stream-app policy`: prints the bucket policy that delivery needs."""

import click

from stream_app.cli.common import load_settings, print_error, with_config
from stream_app.cli.completion import buckets
from stream_app.errors import ConfigurationError


@click.command()
@click.option(
    "--principal",
    metavar="ARN",
    help="The role, user or account that runs the workers; not needed where every destination "
    "has a role_arn.",
)
@click.option(
    "--bucket",
    metavar="NAME",
    shell_complete=buckets,
    help="Only this bucket; left out: the buckets of all destinations.",
)
@click.option(
    "--whole-bucket",
    is_flag=True,
    help="The five usual actions on all objects of the bucket, rather than the least.",
)
@with_config
def policy(*, config: str, principal: str | None, bucket: str | None, whole_bucket: bool) -> None:
    """Print the bucket policy that delivery needs.

    One JSON document for each bucket: the least that its destinations need, below their prefixes,
    and no other right. A destination with a role_arn writes as that role, others as --principal.

    \b
    Example:
      stream-app policy --principal arn:aws:iam::ACCOUNT:role/ROLE --bucket my-bucket
    """
    settings = load_settings(config)
    from stream_app.s3.bucket_policy import (
        POLICY_BYTES_MAX,
        bucket_policy,
        by_bucket,
        encryption_note,
    )

    destinations = by_bucket(settings.destinations)
    if bucket is not None:
        if bucket not in destinations:
            names = ", ".join(destinations)
            raise ConfigurationError(
                [f"--bucket is '{bucket}'; write one of {settings.name}'s buckets: {names}"]
            )
        destinations = {bucket: destinations[bucket]}
    # All of them before the first is printed: an error prints nothing.
    documents = {
        name: bucket_policy(it, principal, whole_bucket=whole_bucket)
        for name, it in destinations.items()
    }
    for name, document in documents.items():
        click.echo(document)
        if len(document) > POLICY_BYTES_MAX:
            print_error(
                f"stream-app: note: the policy of bucket '{name}' has {len(document)} bytes; S3 "
                f"takes {POLICY_BYTES_MAX}: let destinations share a role"
            )
        encryption = encryption_note(destinations[name])
        if encryption is not None:
            print_error(f"stream-app: note: bucket '{name}', {encryption}")
