"""Who may import whom: no circles, and no string that names a module against the arrows of the design."""

import ast
import re
import tomllib
from graphlib import TopologicalSorter

import grimp
import pytest
import yaml

from resonance.hydra_config import group_defaults
from resonance.paths import CONFIGS, PROJECT_ROOT

MAY_NAME = {  # import-linter holds this table for imports
    "resonance": {"resonance"},
    "data": {"resonance", "data"},
    "train": {"resonance", "data", "train"},
    "eval": {"resonance", "data", "eval"},
    "serve": {"resonance", "serve"},
}
AT_RUN_TIME = {"callbacks/evaluate.yaml": "eval"}  # configs that compose another room's object, and that room
COMPOSED_IN_CODE = {"task": "eval"}  # groups that stand in no defaults list, by the room that adds them
NAME = re.compile(rf"({'|'.join(MAY_NAME)})(\.\w+)+")


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    """Every import of ours, those inside functions and for type checkers included."""
    return grimp.build_graph(*MAY_NAME, cache_dir=None)


@pytest.fixture(scope="module")
def command_modules() -> dict[str, str]:
    """The module of each command, as pyproject.toml declares it."""
    project = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text())["project"]
    return {name: value.split(":")[0] for name, value in project["entry-points"]["resonance.commands"].items()}


def test_no_modules_import_each_other_in_a_circle(graph: grimp.ImportGraph) -> None:
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    TopologicalSorter(imports).prepare()  # a CycleError names the modules


def test_every_command_is_a_main_of_an_existing_module(
    graph: grimp.ImportGraph, command_modules: dict[str, str]
) -> None:
    for module in command_modules.values():
        assert module in graph.modules
        path = PROJECT_ROOT.joinpath(*module.split(".")).with_suffix(".py")
        functions = [node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)]
        assert "main" in functions, module


def test_strings_in_code_name_modules_along_the_arrows(graph: grimp.ImportGraph) -> None:
    for path in (path for room in MAY_NAME for path in (PROJECT_ROOT / room).rglob("*.py")):
        room = path.relative_to(PROJECT_ROOT).parts[0]
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and NAME.fullmatch(node.value):
                target = ".".join(node.value.split(".")[:2])
                assert target not in graph.modules or target.split(".")[0] in MAY_NAME[room], (path, node.value)


def test_targets_in_configs_point_along_the_arrows(command_modules: dict[str, str]) -> None:
    composed = {f"{group}/": {room} for group, room in COMPOSED_IN_CODE.items()}  # config or group, and its rooms
    for command, module in command_modules.items():
        for config in (f"{command}.yaml", *(f"{group}/" for group in group_defaults(command))):
            composed.setdefault(config, set()).add(module.split(".")[0])
    for path in CONFIGS.rglob("*.yaml"):
        config = path.name if path.parent == CONFIGS else f"{path.parent.relative_to(CONFIGS)}/"
        for target in targets(yaml.safe_load(path.read_text())):
            name = target.split(".")[0]
            if AT_RUN_TIME.get(path.relative_to(CONFIGS).as_posix()) == name:
                continue
            for room in composed[config]:
                assert name not in MAY_NAME or name in MAY_NAME[room], f"{room} composes {path}, which names {target}"


def targets(node: object) -> list[str]:
    """Every `_target_` of a config."""
    if isinstance(node, list):
        return [target for item in node for target in targets(item)]
    if not isinstance(node, dict):
        return []
    own = [node["_target_"]] if isinstance(node.get("_target_"), str) else []
    return own + [target for child in node.values() for target in targets(child)]
