"""A ComfyUI checkout read as text: what its modules and classes have, and what its functions take. Nothing is run."""

import ast
import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path


@dataclass(frozen=True)
class Found:
    """What a dotted name of the host stands for. Without a node it is there, but nothing more can be read of it."""

    name: str
    node: ast.AST | None = None  # Module, ClassDef or a function; None: a value, or of another package
    module: str = ""  # in which the node stands
    method: bool = False

    @property
    def known(self) -> bool:
        return self.node is not None


@dataclass(frozen=True)
class Parameters:
    """Of a function, without self or cls."""

    names: tuple[str, ...]  # that can be given by position
    needed: frozenset[str]
    by_name: frozenset[str]
    more: bool  # *args
    others: bool  # **kwargs


class Host:
    """The modules of a checkout, each read when it is first asked for."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        self.read = functools.cache(self.read)
        self.names_in = functools.cache(self.names_in)

    @property
    def version(self) -> tuple[int, ...]:
        """As (0, 33, 0)."""
        text = (self.root / "comfyui_version.py").read_text(encoding="utf-8")
        return tuple(map(int, re.search(r"__version__ = \"(\d+)\.(\d+)\.(\d+)", text).groups()))

    def file(self, module: str) -> Path | None:
        place = self.root.joinpath(*module.split("."))
        return next((f for f in (place.with_suffix(".py"), place / "__init__.py") if f.is_file()), None)

    def read(self, module: str) -> ast.Module | None:
        """A module's syntax tree; None if there is none such. A folder without __init__.py is an empty module."""
        file = self.file(module)
        if file is not None:
            return parsed(file.resolve(), file.stat().st_mtime_ns)
        folder = self.root.joinpath(*module.split("."))
        return ast.Module([], []) if folder.is_dir() and any(folder.rglob("*.py")) else None

    def names_in(self, module: str) -> dict[str, ast.AST | str]:
        """What a module binds at its top: a node, or the dotted name of what is imported."""
        found: dict[str, ast.AST | str] = {}
        file = self.file(module)
        package = module if file and file.name == "__init__.py" else module.rpartition(".")[0]
        for node in statements(self.read(module).body):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    first = alias.name.split(".")[0]
                    found[alias.asname or first] = alias.name if alias.asname else first
            elif isinstance(node, ast.ImportFrom):
                source = absolute(node, package)
                for alias in node.names:
                    if alias.name == "*" and self.read(source):
                        found |= {name: f"{source}.{name}" for name in self.names_in(source)}
                    else:
                        found[alias.asname or alias.name] = f"{source}.{alias.name}"
            elif isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                found[node.name] = node
            else:
                found |= dict.fromkeys(assigned(node), node)
        return found

    def find(self, name: str) -> Found | None:
        """What `comfy.samplers.CFGGuider.sample` stands for; None if the host has nothing of that name."""
        root, *rest = name.split(".")
        found: Found | None = Found(root, self.read(root), root) if self.read(root) else None
        for part in rest:
            if found is None or not found.known:
                return found
            found = self.attribute(found, part)
        return found

    def attribute(self, owner: Found, name: str) -> Found | None:
        """One name further; None if it is not there."""
        if isinstance(owner.node, ast.Module):
            bound = self.names_in(owner.module).get(name)
            if bound is None:
                inner = f"{owner.module}.{name}"
                return Found(inner, self.read(inner), inner) if self.read(inner) else None
            return self.bound(bound, f"{owner.name}.{name}", owner.module)
        if isinstance(owner.node, ast.ClassDef):
            return self.of_class(owner, name)
        return Found(f"{owner.name}.{name}")

    def bound(self, bound: ast.AST | str, name: str, module: str) -> Found | None:
        if isinstance(bound, str):
            return self.find(bound) if self.read(bound.split(".")[0]) else Found(name)
        if isinstance(bound, ast.Assign) and (dotted := dotted_name(bound.value)):
            return self.in_scope(dotted, module) or Found(name)
        kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        return Found(name, bound, module) if isinstance(bound, kinds) else Found(name)

    def in_scope(self, dotted: str, module: str) -> Found | None:
        """A name as it is written in a module."""
        root, *rest = dotted.split(".")
        bound = self.names_in(module).get(root)
        found = None if bound is None else self.bound(bound, root, module)
        for part in rest:
            if found is None or not found.known:
                return found
            found = self.attribute(found, part)
        return found

    def classes(self, owner: Found) -> Iterator[Found | None]:
        """A class and its bases, in the order of lookup as far as one can tell; None for a base of another package."""
        yield owner
        for base in owner.node.bases:
            dotted = dotted_name(base)
            found = self.in_scope(dotted, owner.module) if dotted else None
            if found is None or not isinstance(found.node, ast.ClassDef):
                yield None
            elif found.node is not owner.node:  # class Output(Output)
                yield from self.classes(found)

    def of_class(self, owner: Found, name: str) -> Found | None:
        strange = False
        for found in self.classes(owner):
            if found is None:
                strange = True
                continue
            node = members(found.node).get(name)
            if node is not None:
                inner = self.bound(node, f"{found.name}.{name}", found.module)
                return inner and replace(inner, method=True)
        return Found(f"{owner.name}.{name}") if strange else None

    def has(self, owner: Found, name: str) -> bool:
        """Whether a class or a base of it in the checkout has the attribute; what other packages bring is left out."""
        return any(name in members(found.node) for found in self.classes(owner) if found is not None)

    def parameters(self, found: Found, bound: bool = True) -> Parameters | None:
        """What a function takes, or a class when it is called; None if one cannot tell. `bound`: a method has self."""
        if isinstance(found.node, ast.ClassDef):
            if decorated(found.node, "dataclass"):
                return self.fields(found)
            made = self.of_class(found, "__init__")
            return parameters_of(made.node, bound=True) if made and made.known else None
        if isinstance(found.node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            return parameters_of(found.node, found.method and (bound or decorated(found.node, "classmethod")))
        return None

    def fields(self, found: Found) -> Parameters:
        fields = {}
        for one in reversed(list(self.classes(found))):
            if one is not None:
                fields |= {n.target.id: n.value is None for n in one.node.body if isinstance(n, ast.AnnAssign)}
        needed = frozenset(name for name, bare in fields.items() if bare)
        return Parameters(tuple(fields), needed, frozenset(fields), False, False)


@functools.cache
def parsed(file: Path, changed: int) -> ast.Module:
    """A file is parsed once for all checkouts that it is linked from."""
    return ast.parse(file.read_text(encoding="utf-8"))


def statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Also those under if, try and with."""
    for node in body:
        yield node
        for part in ("body", "orelse", "finalbody"):
            if isinstance(node, (ast.If, ast.Try, ast.With)):
                yield from statements(getattr(node, part, []))
        for handler in getattr(node, "handlers", []):
            yield from statements(handler.body)


def absolute(node: ast.ImportFrom, package: str) -> str:
    """The module that is imported from."""
    parts = package.split(".")
    base = parts[: len(parts) - node.level + 1] if node.level else []
    return ".".join([*base, *([node.module] if node.module else [])])


def assigned(node: ast.stmt) -> list[str]:
    """The plain names that a statement assigns to."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [n.id for target in targets for n in ast.walk(target) if isinstance(n, ast.Name)]


@functools.cache
def members(node: ast.ClassDef) -> dict[str, ast.AST]:
    """What a class has of its own: methods, inner classes, values, and what its methods assign to self."""
    found: dict[str, ast.AST] = {}
    for inner in ast.walk(node):
        if isinstance(inner, ast.Attribute) and isinstance(inner.ctx, ast.Store) and is_self(inner.value):
            found[inner.attr] = inner
    for inner in statements(node.body):
        if isinstance(inner, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            found[inner.name] = inner
        else:
            found |= dict.fromkeys(assigned(inner), inner)
    return found


def is_self(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id in ("self", "cls")


def dotted_name(node: ast.AST) -> str | None:
    """`a.b.c` for the expression a.b.c; None for others."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (base := dotted_name(node.value)):
        return f"{base}.{node.attr}"
    return None


def decorated(node: ast.AST, name: str) -> bool:
    """Whether it has the decorator of that name, with or without arguments."""
    found = [d.func if isinstance(d, ast.Call) else d for d in getattr(node, "decorator_list", [])]
    return any((dotted_name(d) or "").rpartition(".")[2] == name for d in found)


def parameters_of(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda, bound: bool) -> Parameters:
    a = node.args
    names = [p.arg for p in (*a.posonlyargs, *a.args)]
    needed = set(names[: len(names) - len(a.defaults)])
    needed |= {p.arg for p, default in zip(a.kwonlyargs, a.kw_defaults, strict=True) if default is None}
    if bound and not decorated(node, "staticmethod"):
        needed.discard(names[0])
        names = names[1:]
    return Parameters(
        tuple(names),
        frozenset(needed),
        frozenset([*names, *(p.arg for p in a.kwonlyargs)]),
        a.vararg is not None,
        a.kwarg is not None,
    )
