"""A class name stands for one thing."""

import ast
from collections import defaultdict
from pathlib import Path

import amphibase

PACKAGE = Path(amphibase.__file__).parent

PREFIXED = {
    # What a package calls after itself is one of a kind that each of several packages has.
    "Settings": "each service reads the names of the environment that are its own",
    "Stage": "the move has one for each kind of thing that moves",
    "Service": "what the gateway mounts, one for each of its services",
}
"""Class names that a package may put its own name before, with the reason."""

ALLOWED = {
    "AuthUser": "Supabase Auth's user, with identities and factors; `User` is the profile",
    "AuthUsers": "the rows of those",
    "PlanKey": "of a cache; `Key` is one that signs",
    "SupabaseClient": "sends requests to a project; `Client` is one of an application, in tests",
    "SupabaseProject": "a project that an application uses; `Project` is one that is served",
    "StorageCaller": "what the policies of Storage see; `Caller` is the contract's",
}


def classes() -> dict[str, list[Path]]:
    """The modules that define a class of each name, beneath other classes and functions too."""
    modules = defaultdict(list)
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                modules[node.name].append(path.relative_to(PACKAGE))
    return modules


def protocols() -> set[str]:
    """The Protocols of the contract, which each backend implements."""
    return {
        node.name
        for path in (PACKAGE / "backend").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
        and any("Protocol" in ast.unparse(base) for base in node.bases)
    }


def test_no_two_classes_have_the_same_name() -> None:
    repeated = {name: paths for name, paths in classes().items() if len(paths) > 1}
    assert repeated == {}


def test_no_class_is_named_after_another_and_its_own_package() -> None:
    names = classes()
    allowed = PREFIXED.keys() | protocols()
    items = [
        f"{path}: {name} is {package} + {rest}"
        for name, paths in names.items()
        for path in paths
        for package in path.parts[:-1]
        if name not in ALLOWED
        and (rest := name.removeprefix(package.title().replace("_", ""))) in names
        and rest != name
        and rest not in allowed
    ]
    assert items == []
