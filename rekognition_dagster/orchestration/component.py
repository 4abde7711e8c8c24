"""The component, for a deployment that is written in YAML."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any

import dagster as dg
from dagster.components.utils.translation import TranslationFn, TranslationFnResolver
from pydantic import BaseModel, Field, PrivateAttr, ValidationError

from rekognition_dagster.analytics import STANDARD_MODELS, load_models
from rekognition_dagster.errors import ConfigurationError
from rekognition_dagster.orchestration.definitions import build_definitions
from rekognition_dagster.orchestration.mistakes import mistakes_of
from rekognition_dagster.orchestration.settings import Settings
from rekognition_dagster.orchestration.translator import (
    RekognitionVideoAssetData,
    RekognitionVideoTranslator,
)


class ScaffoldParams(BaseModel):
    """What ``dg scaffold defs`` asks for."""

    bucket: str = Field(default="my-videos", description="The bucket that holds the videos.")
    lake: str | None = Field(
        default=None,
        description="Where the tables go: a folder or s3://bucket/prefix; by default a folder of"
        " the component's name in .rekognition-dagster.",
    )


class RekognitionVideoScaffolder(dg.Scaffolder[ScaffoldParams]):
    """Writes a ``defs.yaml`` that loads as it is."""

    @classmethod
    def get_scaffold_params(cls) -> type[ScaffoldParams]:
        """The command's options."""
        return ScaffoldParams

    def scaffold(self, request: dg.ScaffoldRequest[ScaffoldParams]) -> None:
        """Write the file."""
        params = request.params or ScaffoldParams()
        name = re.sub(r"\W+", "_", request.target_path.name)
        dg.scaffold_component(
            request,
            {
                "name": name,
                "asset_prefix": name,
                "bucket": params.bucket,
                "lake": params.lake or f".rekognition-dagster/{name}",
                "operations": ["person_tracking"],
                "start": "nightly",
            },
        )


def _template_variables(data: RekognitionVideoAssetData) -> dict[str, Any]:
    return {
        "data": data,
        "name": data.name,
        "kind": data.kind,
        "operation": data.operation or SimpleNamespace(name=data.spec.group_name),
        "model": data.model,
    }


@dg.scaffold_with(RekognitionVideoScaffolder)
class RekognitionVideoComponent(Settings, dg.Component):
    """People, faces and labels of every video in a bucket, as tables.

    An attribute that is not given has its default. Nothing is read from the environment but what
    ``{{ env.X }}`` names, and boto3's own variables.

    ```yaml
    type: rekognition_dagster.RekognitionVideoComponent
    attributes:
      bucket: "{{ env.CAMERAS_BUCKET }}"
      prefix: lobby/
      lake: s3://analytics/lake
      operations: [person_tracking]
      translation:
        key_prefix: [lobby]
        owners: ["team:video"]
    ```
    """

    analytics: str | None = Field(
        default=None,
        description="A folder of .sql files, beside this one, in place of the standard ones.",
        examples=["analytics"],
    )
    translation: (
        Annotated[
            TranslationFn[RekognitionVideoAssetData],
            TranslationFnResolver[RekognitionVideoAssetData](_template_variables),
        ]
        | None
    ) = Field(
        default=None,
        description="What each asset's key, group, owners, tags and so on become. In templates,"
        " name, kind, operation and model are the asset's, and spec is what it would be: "
        '"cameras_{{ spec.group_name }}".',
        examples=[{"owners": ["team:video"], "tags": {"kind_of_asset": "{{ kind }}"}}],
    )

    _place: str = PrivateAttr("translation: ")
    """Where the file has the attribute ``translation``."""

    @classmethod
    def load(cls, attributes: BaseModel | None, context: dg.ComponentLoadContext) -> Any:
        """Make the component of a file's attributes.

        Raises:
            ConfigurationError: A value is wrong; the text has its file and line.
        """
        given = attributes.model_dump(exclude_unset=True) if attributes else {}
        alerts = given.get("alerts")
        if isinstance(alerts, str) and "{{" not in alerts:  # Dagster takes any text for a template
            raise ConfigurationError(
                f"{_where(context, ('alerts',))}{alerts!r} has no attributes; write e.g. "
                "{sns_topic_arn: ...} or {email_to: [...], secret: ...}"
            )
        try:
            loaded = super().load(attributes, context)
        except Exception as error:
            lines = "\n".join(_wrong(error, given, context))
            if not lines:
                raise
            raise ConfigurationError(lines) from None
        folder = Path(context.path) / (loaded.analytics or "")
        if not folder.is_dir():
            raise ConfigurationError(f"{_where(context, ('analytics',))}{folder} is no folder")
        loaded._place = _where(context, ("translation",))
        _check_apart(loaded, context)
        return loaded

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """The deployment's definitions."""
        folder = Path(context.path) / self.analytics if self.analytics else STANDARD_MODELS
        settings = Settings(**{name: getattr(self, name) for name in Settings.model_fields})
        translator = _Translated(self.translation, self._place) if self.translation else None
        return build_definitions(settings, models=load_models(folder), translator=translator)


class _Translated(RekognitionVideoTranslator):
    """A translator from an attribute of the component.

    Args:
        translation: What Dagster makes of the attribute.
        where: Its place in the file, for errors.
    """

    def __init__(self, translation: TranslationFn[RekognitionVideoAssetData], where: str) -> None:
        self._translation = translation
        self._where = where

    def get_asset_spec(self, data: RekognitionVideoAssetData) -> dg.AssetSpec:
        """See :meth:`RekognitionVideoTranslator.get_asset_spec`."""
        try:
            return self._translation(data.spec, data)
        except Exception as error:
            reason = str(error).strip().splitlines()[-1]
            raise ConfigurationError(f"{self._where}of the asset {data.name}: {reason}") from None


_TAKEN: dict[tuple[Path, str], Path] = {}
"""By project and what only one deployment of it may have: the folder of the component."""


def _check_apart(loaded: RekognitionVideoComponent, context: dg.ComponentLoadContext) -> None:
    """Refuse a component that has the name or the assets of another one of the project.

    Raises:
        ConfigurationError: Another folder has them; the text says which.
    """
    folder = Path(context.path)
    for before in [want for want, owner in _TAKEN.items() if owner == folder]:
        del _TAKEN[before]
    wants = {f"name: {loaded.name}": ("name", f"the name {loaded.name}")}
    if loaded.translation is None:
        prefix = f"the asset_prefix {loaded.asset_prefix}" if loaded.asset_prefix else "its assets"
        wants[f"asset_prefix: {loaded.asset_prefix}"] = ("asset_prefix", prefix)
    for want, (attribute, what) in wants.items():
        owner = _TAKEN.get((context.project_root, want), folder)
        if owner != folder and owner.is_dir():
            raise ConfigurationError(
                f"{_where(context, (attribute,))}{owner} has {what}, too; give each deployment a "
                f"{attribute} of its own"
            )
        _TAKEN[context.project_root, want] = folder


def _wrong(
    error: Exception, given: Mapping[str, Any], context: dg.ComponentLoadContext
) -> Iterator[str]:
    """What is wrong with attributes, a line each; nothing where the error is about something else.

    Args:
        error: pydantic's error, or Dagster's after one about a value within an attribute.
        given: The attributes as the file has them.
        context: Where the file is.
    """
    outer: tuple[str, ...] = ()
    cause: BaseException | None = error
    if not isinstance(error, ValidationError):
        found = re.search(r" - attributes\.([\w.]+)", str(error))
        outer = tuple(found[1].split(".")) if found else ()
        cause = error.__context__
    if not isinstance(cause, ValidationError):
        return
    for mistake in mistakes_of(cause, Settings.model_fields):
        place = (*outer, *mistake.place)
        template = given.get(str(place[0])) if len(place) == 1 else None
        text = mistake.text
        if isinstance(template, str) and "{{" in template:
            is_set = mistake.value is not None
            text += f" ({template} is {mistake.value!r})" if is_set else f" ({template} is not set)"
        elif mistake.value is not None:
            text += f" (it is {mistake.value!r})"
        yield _where(context, place) + text


def _where(context: dg.ComponentLoadContext, path: tuple[str | int, ...]) -> str:
    """The file, line and name of an attribute, as the beginning of a message about it."""
    name = ".".join(map(str, path)) or "attributes"
    tree = context.resolution_context.source_position_tree
    if tree is None:
        return f"{name}: "
    position = tree.lookup_closest_and_path(["attributes", *path], None)[0]
    return f"{position.filename}:{position.start.line}: {name}: "
