"""AWS clients: region, profile, endpoint and retries of each come from here and nowhere else.

The order is boto3's: what is passed, then the environment, then the profile. ``AWS_REGION``, which
boto3 itself does not read, counts like ``AWS_DEFAULT_REGION``.
"""

from __future__ import annotations

import os
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rekognition_dagster.operations import Operation

CONNECT_S, READ_S = 5, 60
"""Seconds to wait for a connection, and for an endpoint's answer."""


def region(configured: str | None = None, profile: str | None = None) -> str | None:
    """The region of clients: ``configured``, the environment's, or the profile's."""
    from_environment = os.environ.get("AWS_DEFAULT_REGION") or os.environ.get("AWS_REGION")
    if configured or from_environment:
        return configured or from_environment
    import boto3

    return boto3.Session(profile_name=profile).region_name


def session(
    profile: str | None = None, region_name: str | None = None, assume_role: str | None = None
) -> Any:
    """A boto3 session; arguments as for :func:`client`.

    Raises:
        botocore.exceptions.ProfileNotFound: There is no such profile.
    """
    import boto3
    import botocore.session

    core, loader = botocore.session.Session(), _loader()
    core.register_component("data_loader", loader)
    found = boto3.Session(
        profile_name=profile, region_name=region(region_name, profile), botocore_session=core
    )
    if assume_role:
        provider = _role_provider(session(profile, region_name), assume_role)
        core.get_component("credential_provider").providers.insert(0, provider)
    loader.search_paths[:] = dict.fromkeys(loader.search_paths)  # each session adds boto3's own
    return found


def _role_provider(source: Any, role_arn: str) -> Any:
    """What gives a role's credentials, and renews them, with those of another session."""
    from botocore import credentials

    fetcher = credentials.AssumeRoleCredentialFetcher(
        source.client, source.get_credentials(), role_arn
    )

    class Role(credentials.CredentialProvider):
        METHOD = "assume-role"

        def load(self) -> Any:
            return credentials.DeferredRefreshableCredentials(
                fetcher.fetch_credentials, self.METHOD
            )

    return Role()


@cache
def _loader() -> Any:
    """What reads botocore's service models: a tenth of a second each, so once in a process."""
    import botocore.session

    return botocore.session.Session().get_component("data_loader")


def start_shape(operation: Operation) -> Any:
    """botocore's description of an operation's Start request."""
    from botocore.model import ServiceModel

    model = ServiceModel(_loader().load_service_model("rekognition", "service-2"))
    return model.operation_model(operation.start_api).input_shape


def client(
    service: str,
    *,
    profile: str | None = None,
    region_name: str | None = None,
    attempts: int = 5,
    read_s: float = READ_S,
    assume_role: str | None = None,
    **options: Any,
) -> Any:
    """A boto3 client.

    Args:
        service: boto3's name of the service.
        profile: Of the shared configuration; the environment's by default.
        region_name: See :func:`region`.
        attempts: How often a call is made in all, where it is lost or throttled.
        read_s: Seconds to wait for an answer.
        assume_role: The ARN of a role to take on; its credentials are renewed as they expire.
        options: More arguments of ``boto3.Session.client``.
    """
    from botocore.config import Config

    config = Config(
        retries={"mode": "standard", "total_max_attempts": attempts},
        connect_timeout=min(CONNECT_S, read_s),
        read_timeout=read_s,
    )
    made = session(profile, region_name, assume_role)
    return made.client(service, config=config, **options)


def reason_of(error: Exception) -> str:
    """An AWS error's text, to go on after."""
    return str(error).rstrip(".")
