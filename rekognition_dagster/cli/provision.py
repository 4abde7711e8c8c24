"""``provision``: topic, queues, policy and role in an AWS account."""

from __future__ import annotations

import click


@click.command()
@click.option(
    "--name",
    default="rekognition-dagster",
    show_default=True,
    metavar="PREFIX",
    help="The beginning of the names of topic, queues and role.",
)
@click.option(
    "--arrivals",
    metavar="BUCKET",
    help="Have this bucket report new videos on a queue, instead of listing it all the time.",
)
@click.option(
    "--prefix",
    metavar="PREFIX",
    default="",
    help="With --arrivals: only keys that begin so.",
)
@click.option(
    "--job-tag",
    metavar="NAME",
    help="The deployment whose completions the queue gets; PREFIX by default.",
)
@click.option(
    "--kms-key",
    metavar="ARN",
    help="Encrypts a new topic and new queues. The key's policy must let SNS and the role use it.",
)
def provision(
    name: str, arrivals: str | None, prefix: str, job_tag: str | None, kms_key: str | None
) -> None:
    """Make topic, queue, dead-letter queue, policy and role in an AWS account.

    Can be repeated: what exists is left as it is. Prints the pipeline's settings:

    \b
      rekognition-dagster provision >> .env
      rekognition-dagster provision --arrivals my-videos --prefix entrance/ >> .env
    """
    import re

    from rekognition_dagster import aws
    from rekognition_dagster.api import provision as provision_account

    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name):
        raise click.BadParameter("use 1 to 64 letters, digits, - or _", param_hint="--name")
    if prefix and not arrivals:
        raise click.UsageError("--prefix goes with --arrivals BUCKET")
    made = provision_account(
        aws.session(), name, arrivals=arrivals, prefix=prefix, job_tag=job_tag, kms_key=kms_key
    )
    click.echo(f"dead letters go to {made.dead_letter_url}", err=True)
    for variable, value in made.environment().items():
        click.echo(f"{variable}={value}")
