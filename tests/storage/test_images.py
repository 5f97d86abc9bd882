"""Pictures beside a table: kept once under their sha256, found again, and refused if they changed."""

from __future__ import annotations

import base64
import hashlib
import io
from pathlib import Path

import pytest
from PIL import Image

from perl_eval.errors import DataError
from perl_eval.storage import images


def picture(kind: str, colour: tuple[int, int, int] = (200, 30, 30)) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (6, 4), colour).save(content, kind)
    return content.getvalue()


@pytest.mark.parametrize("kind", ["png", "jpeg", "gif", "webp"])
def test_a_picture_is_kept_under_its_sha256_and_comes_back(tmp_path: Path, kind: str) -> None:
    content = picture(kind)
    name = images.keep(tmp_path, content)
    assert name == f"{hashlib.sha256(content).hexdigest()}.{kind}"
    (path,) = images.locate(tmp_path, [name])
    assert images.read(path) == content
    head, body = images.data_url(path).split(",")
    assert head == f"data:image/{kind};base64"
    assert Image.open(io.BytesIO(base64.b64decode(body))).size == (6, 4)


def test_equal_pictures_are_one_file(tmp_path: Path) -> None:
    names = [images.keep(tmp_path, picture("png", colour)) for colour in ((1, 2, 3), (1, 2, 3), (4, 5, 6))]
    assert names[0] == names[1] != names[2]
    assert len(list((tmp_path / "images").iterdir())) == 2


def test_pictures_are_found_from_the_folder_and_from_the_table_in_it(tmp_path: Path) -> None:
    name = images.keep(tmp_path, picture("png"))
    assert images.locate(tmp_path, [name]) == images.locate(tmp_path / "completions.parquet", [name])


@pytest.mark.parametrize("content", [b"", b"plain text", b"RIFF....WAVE", b"<svg/>"])
def test_what_is_no_picture_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(DataError, match="is not a picture"):
        images.keep(tmp_path, content)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["gone.png", "../secret.png", "/etc/passwd", "images/x.png"])
def test_a_missing_picture_or_one_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret.png").write_bytes(picture("png"))
    with pytest.raises(DataError, match="is named by a completion and missing"):
        images.locate(tmp_path, [name])


def test_a_changed_picture_is_refused(tmp_path: Path) -> None:
    (path,) = images.locate(tmp_path, [images.keep(tmp_path, picture("png"))])
    Path(path).write_bytes(picture("png", (0, 0, 0)))
    with pytest.raises(DataError, match="does not match the sha256"):
        images.data_url(path)
    Path(path).unlink()
    with pytest.raises(DataError, match="cannot be read"):
        images.read(path)
