"""What all builders share: verified files, honest caches, checked rows, a drop log.

A data set is a subclass of `Builder` in a module of its own. It says where its files come from and how one file becomes
rows; everything else is here. To write one::

    class Example(Builder):
        ORIGIN = Origin(name="example", ...)
        BUILDER_CONFIGS = configs(Config, pairs="two answers, the better one first")
        DEFAULT_CONFIG_NAME = "pairs"
        COUNTS = {"pairs": {"train": 1000}}             # rows kept + dropped, where upstream's count is known

        def _shape(self):                                 # columns of self.config.name
            return features.preference(extra={"score": Value("int64")})

        def _sources(self):                               # which files feed which split; a list of files is sharded
            return {"train": TRAIN_FILES, "test": TEST_FILES}

        def _rows(self, split, part, tally):              # one file, read lazily: (upstream row number, row as a dict)
            for row, record in json_lines(part.path, file=part.name, tally=tally):
                check_keys(record, {"a", "b"}, file=part.name, row=row)
                if not record["a"]:
                    tally.drop("empty answer", file=part.name, row=row)
                    continue
                yield row, {"prompt": [message("user", ...)], ..., **self._metadata(part, id=..., group=...)}

Optional: ``_extra()`` names files that are needed beside the sharded ones (`path_of` says where a source lies);
``_loose()`` puts files that are too many to name into the cache key;
``_survey(parts)`` sees all files once before any row is made, and may keep what it finds on ``self``; ``_batches`` in
place of ``_rows`` yields whole `Batch` tables, for speed; ``BATCH_ROWS`` is small where rows are heavy.

The base class does the rest: it names the cache folder after the data set and hashes source checksums and this
package's code into it, verifies checksums, refuses duplicate ids and wrong counts with a `DataError`, saves the `Tally`
beside the rows, and lets errors out of `datasets` as they were raised. Files are opened in `reading` or another module
without a builder in it, because `datasets` replaces ``open`` and ``Path`` in modules that define one.
"""

from __future__ import annotations

import hashlib
import re
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import datasets
import numpy as np
import pyarrow as pa
from datasets.builder import Key
from datasets.exceptions import DatasetGenerationError

from datasets_builders import sources
from datasets_builders.columns import table_of
from datasets_builders.errors import BuilderError, DataError
from datasets_builders.reading import column_batches
from datasets_builders.sources import Origin, Source
from datasets_builders.tally import Tally

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Batch", "Builder", "Config", "Part", "configs"]

NOT_OPTIONS = frozenset({"name", "version", "data_dir", "data_files", "description"})
"""Fields of a configuration that are no options of a data set."""
VERSION = datasets.Version("1.0.0")
_SPLIT_NAME = re.compile(r"(?:^|\+)\s*(\w+)")
"""The names in what says which splits to read: ``train``, ``train[:10%]``, ``train+test``."""


@dataclass(eq=False)  # compared as datasets.BuilderConfig does
class Config(datasets.BuilderConfig):  # type: ignore[misc]  # datasets ships no types
    """One configuration.

    Attributes:
        checksums: ``verify`` refuses files that are not the pinned ones and counts that are not upstream's;
            ``record`` takes the files as they are and puts their sha256 on the card.
        splits: Build these splits only, comma-separated; files of the others are not needed. Empty: all.
    """

    checksums: str = "verify"
    splits: str = ""


def configs(kind: type[Config], **descriptions: str) -> list[Config]:
    """Return configurations of one kind, by name and description."""
    return [kind(name=name, version=VERSION, description=text) for name, text in descriptions.items()]


class Part(NamedTuple):
    """One upstream file: its upstream path and where it lies."""

    name: str
    path: Path


@dataclass(frozen=True, slots=True)
class Batch:
    """Some rows of one file: the upstream row number of each, and the table."""

    rows: Sequence[int]
    table: pa.Table


class Builder(datasets.ArrowBasedBuilder):  # type: ignore[misc]  # datasets ships no types
    """Base class of the builders; see the module's docstring.

    Args:
        cache_dir: Folder for downloads and built rows; default that of `datasets`.
        options: What `datasets.DatasetBuilder` takes (``config_name``, ``data_dir``, ``token``, ...) and the fields of
            the data set's `Config`; `datasets` refuses any other name.
    """

    VERSION = VERSION
    BUILDER_CONFIG_CLASS = Config
    ORIGIN: ClassVar[Origin]
    COUNTS: ClassVar[Mapping[str, Mapping[str, int]]] = {}
    BATCH_ROWS: ClassVar[int] = 2000
    UNASKED: ClassVar[tuple[str, ...]] = ()
    """Configurations to build when none is named; empty for all."""

    def __init__(self, cache_dir: str | None = None, **options: Any) -> None:
        self._paths: dict[Source, Path] = {}
        self._live: dict[str, Tally] = {}
        self._preparing = False
        super().__init__(cache_dir=cache_dir, **{**options, "dataset_name": self.ORIGIN.name})

    # What a data set says.

    def _shape(self) -> datasets.Features:
        """Return the columns of this configuration."""
        raise NotImplementedError

    def _sources(self) -> Mapping[str, Sequence[Source]]:
        """Return the files that feed each split; the same file may feed several."""
        raise NotImplementedError

    def _extra(self) -> Sequence[Source]:
        """Return files needed beside those of `_sources`."""
        return ()

    def _loose(self) -> str:
        """Return what tells apart the files that are read and are no `Source`, such as a folder of pictures."""
        return ""

    def _survey(self, parts: Sequence[Part]) -> None:
        """Look at all files of `_sources` before any row is made."""

    def _rows(self, split: str, part: Part, tally: Tally) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield the rows of one file that belong to a split, each with its upstream row number."""
        raise NotImplementedError

    def _batches(self, split: str, part: Part, tally: Tally) -> Iterator[Batch]:
        """Yield the same as tables."""
        rows = self._rows(split, part, tally)
        while batch := list(islice(rows, self.BATCH_ROWS)):
            yield Batch([row for row, _ in batch], table_of([content for _, content in batch], self.info.features))

    # What data sets use.

    def _metadata(self, part: Part, *, id: str, group: str) -> dict[str, str]:
        """Return the metadata columns of a row; ids are unique over all splits of a configuration."""
        return {"id": id, "group": group, "dataset": self.ORIGIN.name, "source_file": part.name}

    def _columns(self, part: Part, *, ids: Sequence[str], groups: Sequence[str]) -> dict[str, Sequence[str]]:
        """Return the metadata columns of some rows."""
        count = len(ids)
        names, files = [self.ORIGIN.name] * count, [part.name] * count
        return {"id": ids, "group": groups, "dataset": names, "source_file": files}

    def path_of(self, source: Source) -> Path:
        """Return where a verified source lies."""
        return self._paths[source]

    # What users use.

    def load(self, split: Any = None, *, streaming: bool = False, num_proc: int | None = None) -> Any:
        """Return all splits: a `datasets.DatasetDict`, or with ``streaming`` an `datasets.IterableDatasetDict`.

        Streaming makes rows as they are asked for and keeps nothing; ids and counts are then not checked.

        Args:
            split: One split, or a part of it such as ``"train[:10%]"``; all if None.
            streaming: Make rows as they are asked for.
            num_proc: Processes to build with.

        Raises:
            BuilderError: There is no such split.
        """
        names = list(self._wanted())
        if isinstance(split, str) and (asked := set(_SPLIT_NAME.findall(split)) - {*names, "all"}):
            raise BuilderError(
                f"{self.dataset_name} {self.config.name} has no split {min(asked)!r}", f"choose from {', '.join(names)}"
            )
        if streaming:
            made = self.as_streaming_dataset(split=split)
            return datasets.IterableDatasetDict(made) if split is None else made
        self.download_and_prepare(num_proc=num_proc)
        return self.as_dataset(split=split)

    def tallies(self) -> dict[str, Tally]:
        """Return for each split what was kept and dropped, of the rows built or streamed so far."""
        found: dict[str, Tally] = {}
        for split, path in sources.saved_tallies(sources.path_at(self._output_dir)):
            found.setdefault(split, Tally()).add(Tally.read(path))
        return found or self._live

    def checksums(self) -> dict[str, str]:
        """Return the sha256 of each upstream file in use, by upstream path."""
        return {source.path: sources.sha256_of(path) for source, path in sorted(self._located().items(), key=_by_path)}

    def pinned(self) -> frozenset[str]:
        """Return the upstream paths whose checksum was compared with a pinned one."""
        if self.config.checksums != "verify":
            return frozenset()
        return frozenset(one.path for one in self._needed() if one.sha256 is not None or one.git_sha1 is not None)

    def settings(self) -> dict[str, str]:
        """Return the options that differ from their defaults, by name."""
        plain = type(self.config)(name=self.config.name)
        names = [field.name for field in fields(self.config) if field.name not in NOT_OPTIONS]
        return {
            name: str(getattr(self.config, name))
            for name in names
            if getattr(self.config, name) != getattr(plain, name)
        }

    # What `datasets` calls.

    def _info(self) -> datasets.DatasetInfo:
        origin = self.ORIGIN
        return datasets.DatasetInfo(
            description=origin.description,
            citation=origin.citation,
            homepage=origin.homepage,
            license=origin.licence,
            features=self._shape(),
        )

    def _wanted(self) -> dict[str, Sequence[Source]]:
        """Return the files of the splits asked for."""
        if self.config.checksums not in ("verify", "record"):
            raise BuilderError(f"checksums={self.config.checksums!r}", "choose 'verify' or 'record'")
        all_splits = self._sources()
        names = [name.strip() for name in self.config.splits.split(",") if name.strip()] or list(all_splits)
        for name in names:
            if name not in all_splits:
                raise BuilderError(
                    f"{self.dataset_name} {self.config.name} has no split {name!r}",
                    f"choose from {', '.join(all_splits)}",
                )
        return {name: all_splits[name] for name in names}

    def _needed(self) -> list[Source]:
        return list(dict.fromkeys([*(one for files in self._wanted().values() for one in files), *self._extra()]))

    def _located(self) -> dict[Source, Path]:
        """Return where the files lie, as far as that is known without a download."""
        if not self._paths and self.config.data_dir is not None:
            folder = sources.path_at(self.config.data_dir)
            self._paths = {source: sources.find(source, folder) for source in self._needed()}
        return self._paths

    def _build_cache_dir(self) -> str:
        """Return the cache folder, with a hash of the files and the code in its name.

        `datasets` calls this from its constructor, once the configuration is known.
        """
        if self.config.data_dir is None and self.ORIGIN.manual:
            raise BuilderError(f"{self.dataset_name} cannot be downloaded", f"give data_dir; {self.ORIGIN.manual}")
        located = self._located()
        digest = hashlib.sha256(sources.code_sha256().encode())
        for source in self._needed():
            content = sources.sha256_of(located[source]) if source in located else source.sha256 or source.url
            digest.update(f"{source.path}\0{content}\0".encode())
        digest.update(self._loose().encode())
        self.hash = digest.hexdigest()[:32]
        return str(super()._build_cache_dir())

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        wanted, needed = self._wanted(), self._needed()
        if self.config.data_dir is None:
            manager = dl_manager if isinstance(dl_manager, datasets.DownloadManager) else None
            self._paths = sources.download(
                needed, manager=manager, cache_dir=sources.path_at(self._cache_downloaded_dir)
            )
        if self.config.checksums == "verify":
            for source in needed:
                sources.verify(source, self._located()[source])
        shared = list(dict.fromkeys(one for files in wanted.values() for one in files))
        self._survey([Part(source.path, self._paths[source]) for source in shared])
        return [
            datasets.SplitGenerator(
                name=split,
                gen_kwargs={
                    "split": split,
                    "names": [source.path for source in files],
                    "files": [str(self._paths[source]) for source in files],
                },
            )
            for split, files in wanted.items()
        ]

    def _generate_tables(self, split: str, names: list[str], files: list[str]) -> Iterator[tuple[Key, pa.Table]]:
        tally = Tally()
        for shard, (name, file) in enumerate(zip(list(names), list(files), strict=True)):
            for index, batch in enumerate(self._batches(split, Part(name, sources.path_at(file)), tally)):
                tally.kept += batch.table.num_rows
                yield Key(shard, index), batch.table
        self._live[split] = tally
        if self._preparing:
            sources.save_tally(tally, sources.path_at(self._output_dir), split=split, first=names[0] if names else "")

    def _prepare_split_single(self, *arguments: Any, **options: Any) -> Iterator[Any]:
        """Prepare one shard; an error of ours comes out as it was raised, from a worker process too."""
        try:
            yield from super()._prepare_split_single(*arguments, **options)
        except DatasetGenerationError as error:
            cause: BaseException | None = error
            while cause is not None and not isinstance(cause, BuilderError):
                cause = cause.__cause__
            if cause is None:
                raise
            raise cause from None

    def _download_and_prepare(self, dl_manager: Any, verification_mode: Any, **options: Any) -> None:
        self._preparing = True
        try:
            super()._download_and_prepare(dl_manager, verification_mode, **options)
        finally:
            self._preparing = False
        self._refuse_duplicate_ids()
        if self.config.checksums == "verify":
            self._refuse_wrong_counts()

    def _as_dataset(self, split: Any = "train", in_memory: bool = False) -> Any:
        """Return one split; one without rows too, which `datasets` would refuse to read."""
        info = self.info.splits.get(str(split))
        if info is not None and info.num_examples == 0:
            return datasets.Dataset(table_of([], self.info.features), info=self.info, split=split)
        return super()._as_dataset(split=split, in_memory=in_memory)

    def _refuse_wrong_counts(self) -> None:
        seen = {split: tally.kept + tally.dropped.total() for split, tally in self.tallies().items()}
        expected = self.COUNTS.get(self.config.name, {})
        if "" in expected and not self.config.splits:
            seen[""] = sum(seen.values())
        for split, count in expected.items():
            if split in seen and seen[split] != count:
                raise DataError(
                    f"{self.config.name} {split or 'in all'}: {seen[split]:,} rows, upstream has {count:,}",
                    self.dataset_name,
                    fix="get all files again, or build from what you have with checksums='record' (--checksums record)",
                )

    def _refuse_duplicate_ids(self) -> None:
        """Refuse two rows with one id, over all splits; `datasets` itself does not look.

        Only a 64-bit hash of each id is held. Rows of equal hash are looked at again.
        """
        hashes = array("q")
        for ids in column_batches(sources.path_at(self._output_dir), "id"):
            hashes.extend(map(hash, ids))
        ordered = np.frombuffer(hashes, dtype=np.int64)
        ordered.sort()
        suspects = set(ordered[1:][ordered[1:] == ordered[:-1]].tolist())
        if not suspects:
            return
        seen: set[str] = set()
        for split, files in self._wanted().items():
            for source in files:
                for batch in self._batches(split, Part(source.path, self._paths[source]), Tally()):
                    for row, id_ in zip(batch.rows, batch.table["id"].to_pylist(), strict=True):
                        if id_ in seen:
                            raise DataError(f"id {id_!r} is there twice", source.path, row, "id")
                        if hash(id_) in suspects:
                            seen.add(id_)


def _by_path(item: tuple[Source, Path]) -> str:
    return item[0].path
