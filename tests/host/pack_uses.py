"""What the pack takes from ComfyUI, read from the pack's own source: names, calls, and methods that it overrides."""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from host_source import dotted_name, is_self, members

# What an absolute import of the pack can also be. Any other is taken for the host's, and missed if it is not there.
OTHERS = frozenset(sys.stdlib_module_names) | {"torch", "torchaudio", "safetensors", "av", "numpy", "PIL", "ftfy"}


@dataclass(frozen=True)
class Use:
    """A name of the host's in the pack, and the call if it is called."""

    name: str
    place: str  # file:line
    call: ast.Call | None = None
    optional: bool = False  # imported where it may be missing
    bound: bool = False  # called as a method, so that self is given


@dataclass
class Heir:
    """A class of the pack that is made of one of the host's."""

    name: str
    base: str  # dotted, of the host
    node: ast.ClassDef
    file: str
    read: dict[str, int] = field(default_factory=dict)  # attributes of self that it reads and does not have: lines

    @property
    def builds_base(self) -> bool:
        """Whether its constructor calls the host's, or it has none."""
        made = members(self.node).get("__init__")
        return made is None or any(super_call(n) == "__init__" for n in ast.walk(made))


@dataclass
class Uses:
    uses: list[Use] = field(default_factory=list)
    heirs: list[Heir] = field(default_factory=list)
    asked: dict[str, str] = field(default_factory=dict)  # attributes of objects of unknown kind, and where


def files(pack: Path) -> list[Path]:
    return [pack / "__init__.py", *sorted((pack / "nodes").rglob("*.py"))]


def read(pack: Path) -> Uses:
    found = Uses()
    for file in files(pack):
        Reader(found, file.relative_to(pack).as_posix()).visit(ast.parse(file.read_text(encoding="utf-8")))
    return found


def super_call(node: ast.AST) -> str | None:
    """The method's name in super().method(...), with or without arguments to super."""
    if isinstance(node, ast.Attribute):
        value = node.value
        if isinstance(value, ast.Call) and dotted_name(value.func) == "super":
            return node.attr
    return None


def asked_by_name(node: ast.Call) -> str | None:
    """The attribute's name in getattr(x, "name") and hasattr."""
    if dotted_name(node.func) in ("getattr", "hasattr") and isinstance(node.args[1], ast.Constant):
        return node.args[1].value
    return None


class Reader(ast.NodeVisitor):
    """Walks one file; names are looked up as the file binds them at its imports."""

    def __init__(self, found: Uses, file: str) -> None:
        self.found, self.file = found, file
        self.bound: dict[str, str] = {}  # here -> on the host
        self.optional: set[str] = set()  # bound names
        self.lenient = 0  # inside a try that takes a missing module
        self.heirs: list[Heir | None] = []

    def visit_Module(self, node: ast.Module) -> None:
        self.imports(node)
        self.generic_visit(node)

    def imports(self, tree: ast.AST) -> None:
        """First, for functions use names that are bound below them."""
        for node, lenient in with_leniency(tree):
            for name, bound in imported(node):
                self.bound[bound or name.split(".")[0]] = name if bound else name.split(".")[0]
                if lenient:
                    self.optional.add(bound or name.split(".")[0])
                self.note(name, node, optional=lenient)

    def note(self, name: str, node: ast.AST, call: Any = None, optional: bool = False, bound: bool = False) -> None:
        self.found.uses.append(Use(name, f"{self.file}:{node.lineno}", call, optional, bound))

    def on_host(self, node: ast.AST) -> tuple[str, bool] | None:
        """The host's dotted name for an expression, and whether it may be missing."""
        dotted = dotted_name(node)
        if dotted is None:
            name = super_call(node)
            heir = self.heirs[-1] if self.heirs else None
            return (f"{heir.base}.{name}", False) if name and heir else None
        root, _, rest = dotted.partition(".")
        if root not in self.bound:
            return None
        return ".".join(filter(None, (self.bound[root], rest))), root in self.optional

    def visit_Call(self, node: ast.Call) -> None:
        found = self.on_host(node.func)
        if asked := asked_by_name(node):
            self.found.asked.setdefault(asked, f"{self.file}:{node.lineno}")
        if found is not None:
            self.note(found[0], node, node, found[1], super_call(node.func) is not None)
            for part in (*node.args, *node.keywords):
                self.visit(part)
        else:
            self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        found = self.on_host(node)
        if found is not None:
            self.note(found[0], node, optional=found[1])
            return
        heir = self.heirs[-1] if self.heirs else None
        if heir is None or not is_self(node.value):
            self.found.asked.setdefault(node.attr, f"{self.file}:{node.lineno}")  # read or set
        elif isinstance(node.ctx, ast.Load) and node.attr not in members(heir.node):
            heir.read.setdefault(node.attr, node.lineno)
        self.generic_visit(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        bases = [found[0] for base in node.bases if (found := self.on_host(base))]
        heir = Heir(node.name, bases[0], node, self.file) if bases else None
        if heir:
            self.found.heirs.append(heir)
        self.heirs.append(heir)
        self.generic_visit(node)
        self.heirs.pop()


def with_leniency(tree: ast.AST, lenient: bool = False) -> Iterator[tuple[ast.AST, bool]]:
    """All nodes, and whether an ImportError there is taken."""
    for node in ast.iter_child_nodes(tree):
        yield node, lenient
        if isinstance(node, ast.Try):
            taken = lenient or any("ImportError" in ast.dump(h.type) for h in node.handlers if h.type)
            for part in node.body:
                yield part, taken
                yield from with_leniency(part, taken)
            for part in (*node.handlers, *node.orelse, *node.finalbody):
                yield from with_leniency(part, lenient)
        else:
            yield from with_leniency(node, lenient)


def imported(node: ast.AST) -> Iterator[tuple[str, str | None]]:
    """What an import takes from the host, and the name it gets, if that is not the first part."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            if alias.name.split(".")[0] not in OTHERS:
                yield alias.name, alias.asname
    elif isinstance(node, ast.ImportFrom) and not node.level and node.module.split(".")[0] not in OTHERS:
        for alias in node.names:
            yield f"{node.module}.{alias.name}", alias.asname or alias.name
