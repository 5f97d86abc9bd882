"""The dataset card for machines: Croissant, schema.org's Dataset with files, record sets and fields.

Source: the Croissant format specification, version 1.0, http://mlcommons.org/croissant/1.0.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from datasets_builders.card import Built
from datasets_builders.checks import split_files
from datasets_builders.sources import Origin, sha256_of

__all__ = ["FILE", "croissant"]

FILE = "croissant.json"
"""The file beside the dataset card."""
_TERMS = (
    *(
        "citeAs",
        "column",
        "equivalentProperty",
        "examples",
        "excludes",
        "extract",
        "field",
        "fileObject",
        "fileProperty",
    ),
    *("fileSet", "format", "includes", "isArray", "isLiveDataset", "jsonPath", "key", "md5", "parentField", "path"),
    *("arrayShape", "containedIn", "recordSet", "references", "regex", "repeated", "replace", "samplingRate"),
    *("separator", "source", "subField", "transform"),
)
_CONTEXT: Mapping[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    **{term: f"cr:{term}" for term in _TERMS},
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "rai": "http://mlcommons.org/croissant/RAI/",
    "sc": "https://schema.org/",
}
_LICENCES = {
    "mit": "https://spdx.org/licenses/MIT.html",
    "apache-2.0": "https://spdx.org/licenses/Apache-2.0.html",
    "cc-by-4.0": "https://spdx.org/licenses/CC-BY-4.0.html",
    "odc-by": "https://spdx.org/licenses/ODC-By-1.0.html",
}
_VERSION = "1.0.0"
"""Of the layout of the rows, as the builders have it."""
_PARQUET = "application/x-parquet"


def croissant(origin: Origin, built: Mapping[str, Built], folder: Path, *, org: str = "") -> dict[str, Any]:
    """Return the JSON-LD of a folder of built rows.

    Each parquet file is a file object with its sha256; each split of a configuration is a record set, with a field a
    column. Of a column of messages, the fields in it are those of a message.

    Args:
        origin: Where the data set comes from.
        built: The configurations in the folder.
        folder: The folder, with all parquet files in it.
        org: Who publishes the folder; upstream's page is named as the source in any case.

    Raises:
        BuilderError: A configuration has no files.
    """
    files: list[dict[str, Any]] = []
    record_sets: list[dict[str, Any]] = []
    for config, one in built.items():
        for split, paths in split_files(folder / config).items():
            name = f"{config}/{split}"
            files += [_file(folder, path) for path in paths]
            files.append({"@type": "cr:FileSet", "@id": f"{name}-files", "name": f"{name}-files"})
            files[-1] |= {"encodingFormat": _PARQUET, "includes": f"{config}/{split}-*.parquet"}
            fields = [_field(name, column) for column in pq.read_schema(paths[0])]
            described = {"description": f"{one.description}. Split {split}: {one.tallies[split].kept:,} rows."}
            key = {"key": {"@id": f"{name}/id"}}
            head = {"@type": "cr:RecordSet", "@id": name, "name": name}
            record_sets.append({**head, **described, **key, "field": fields})
    publisher = {"publisher": {"@type": "Organization", "name": org}} if org else {}
    told = [
        origin.description,
        f"Built from upstream's revision {origin.revision}." if origin.revision else "",
        f"Warning: {origin.warning}" if origin.warning else "",
    ]
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": origin.name,
        "alternateName": origin.title,
        "description": " ".join(filter(None, told)),
        "license": _LICENCES.get(origin.licence, origin.terms),
        "url": origin.homepage,
        "isBasedOn": origin.homepage,
        "citeAs": origin.citation,
        "keywords": list(origin.tags),
        "version": _VERSION,
        **publisher,
        "usageInfo": origin.terms,
        "distribution": files,
        "recordSet": record_sets,
    }


def _file(folder: Path, path: Path) -> dict[str, Any]:
    inside = path.relative_to(folder).as_posix()
    return {
        "@type": "cr:FileObject",
        "@id": inside,
        "name": inside,
        "contentUrl": inside,
        "contentSize": f"{path.stat().st_size} B",
        "encodingFormat": _PARQUET,
        "sha256": sha256_of(path),
    }


def _field(record_set: str, column: pa.Field) -> dict[str, Any]:
    """Return a column as a field; a list of structs has a field for each part of a struct."""
    name = f"{record_set}/{column.name}"
    source = {"fileSet": {"@id": f"{record_set}-files"}, "extract": {"column": column.name}}
    head = {"@type": "cr:Field", "@id": name, "name": name}
    inner = column.type.value_type if pa.types.is_list(column.type) else column.type
    if not pa.types.is_struct(inner):
        array = {"isArray": True, "arrayShape": "-1"} if inner is not column.type else {}
        return {**head, "dataType": _kind(inner), **array, "source": source}
    parts = [
        {
            "@type": "cr:Field",
            "@id": f"{name}/{part.name}",
            "name": f"{name}/{part.name}",
            "dataType": _kind(part.type),
            "source": {**source, "transform": {"jsonPath": part.name}},
        }
        for part in inner
    ]
    return {**head, "dataType": "sc:Text", "isArray": True, "arrayShape": "-1", "source": source, "subField": parts}


def _kind(kind: pa.DataType) -> str:
    """Return the data type of an arrow type; what has no simple one is text, as JSON."""
    if pa.types.is_boolean(kind):
        return "sc:Boolean"
    if pa.types.is_integer(kind):
        return "sc:Integer"
    if pa.types.is_floating(kind):
        return "sc:Float"
    return "sc:Text"
