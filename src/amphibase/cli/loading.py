"""Finds the application that a command is about."""

import importlib
import importlib.util
import sys
from pathlib import Path

from fastapi import FastAPI

from amphibase.errors import ConfigurationError
from amphibase.http.app import Amphibase


def load_app(path: str) -> FastAPI:
    """Import an application; modules are also looked for in the current folder.

    Args:
        path: `module:attribute`, for example `main:app`.

    Raises:
        ConfigurationError: there is no such module or attribute, or it is no FastAPI application.
    """
    module_name, colon, attribute = path.partition(":")
    is_file = module_name.startswith(".") or module_name.endswith(".py")
    if is_file or not (module_name and colon and attribute):
        raise ConfigurationError(f"{path!r} names no application; write module:app, as in main:app")
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if f"{module_name}.".startswith(f"{missing}."):
            raise ConfigurationError(
                f"No module named {missing!r}; run it from the folder that holds it"
            ) from None
        beside = _folder_of(module_name)
        if not (beside / f"{missing}.py").exists():
            raise  # a module that the application itself misses is its own affair
        name = module_name.rpartition(".")[2]
        raise ConfigurationError(
            f"{module_name} imports {missing}, which is beside it: name it {name}:{attribute}, and "
            f"run the command in {beside}"
        ) from None
    application = getattr(module, attribute, None)
    if application is None:
        names = [name for name, value in vars(module).items() if isinstance(value, FastAPI)]
        others = f"; its application is {module_name}:{names[0]}" if names else ""
        raise ConfigurationError(f"The module {module_name!r} has no {attribute!r}{others}")
    if not isinstance(application, FastAPI):
        raise ConfigurationError(
            f"{path} is no FastAPI application, but of the type {type(application).__name__}"
        )
    return application


def _folder_of(module_name: str) -> Path:
    spec = importlib.util.find_spec(module_name)
    return Path(spec.origin if spec is not None and spec.origin else ".").parent


def amphibase_of_app(path: str) -> Amphibase:
    """Import an application and return the Amphibase that is mounted on it.

    Raises:
        ConfigurationError: there is no such application, or nothing is mounted on it.
    """
    mounted = getattr(load_app(path).state, "amphibase", None)
    if not isinstance(mounted, Amphibase):
        raise ConfigurationError(f"{path} has no Amphibase; call Amphibase().mount(app) in it")
    return mounted
