"""The settings of Storage, by the names that its own has."""

from pathlib import Path

import pytest

from amphibase.errors import ConfigurationError
from amphibase.gateway.storage.settings import load_storage_settings


def test_what_is_not_said_is_as_it_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load_storage_settings(tmp_path / "files")
    assert settings.file_storage_backend_path == tmp_path / "files"
    assert settings.file_size_limit == 50 * 1024 * 1024


def test_the_environment_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FILE_SIZE_LIMIT", "7")
    monkeypatch.setenv("FILE_STORAGE_BACKEND_PATH", "/elsewhere")
    settings = load_storage_settings(tmp_path / "files")
    assert (settings.file_size_limit, str(settings.file_storage_backend_path)) == (7, "/elsewhere")


def test_a_wrong_value_is_one_line_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FILE_SIZE_LIMIT", "a lot")
    with pytest.raises(ConfigurationError, match=r"^FILE_SIZE_LIMIT: .*52428800[^\n]*$"):
        load_storage_settings(tmp_path)


@pytest.mark.parametrize("name", ["UPLOAD_FILE_SIZE_LIMIT", "FILE_SIZE_LIMIT"])
def test_the_limit_of_a_file_has_its_old_name_and_its_new_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    monkeypatch.setenv(name, "7")
    assert load_storage_settings(tmp_path).max_object_bytes == 7
