"""Every call of a function of dnc_jax is held against its annotations, by beartype.

Functions are decorated as their module is imported, next to their own code so that
`custom_vjp` and others wrap what is checked; dataclasses where they are made. Fields of
NamedTuples are not checked, as `beartype.claw` would: JAX puts anything at all into a
pytree. Nor are functions within functions, as jaxtyping's hook would, under which
test_search.py, test_strategies.py and test_budget.py took 102 s, now 47.
"""

import ast
import dataclasses
import importlib.abc
import importlib.machinery
import sys

from beartype import BeartypeConf, beartype

_CHECK = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int is a float too
_NAME = "_beartype_checks"  # which no module defines


class _Loader(importlib.machinery.SourceFileLoader):
    """Leaves no bytecode behind, which others would run."""

    def get_code(self, fullname):
        path = self.get_filename(fullname)
        tree = ast.parse(self.get_data(path), path)
        for scope in ast.walk(tree):
            if isinstance(scope, ast.Module | ast.ClassDef):
                for node in scope.body:
                    if isinstance(node, ast.FunctionDef):
                        node.decorator_list.append(ast.Name(_NAME, ast.Load()))
        return compile(ast.fix_missing_locations(tree), path, "exec", dont_inherit=True)

    def exec_module(self, module):
        setattr(module, _NAME, _CHECK)
        super().exec_module(module)
        for one in list(vars(module).values()):
            own = isinstance(one, type) and one.__module__ == module.__name__
            if own and dataclasses.is_dataclass(one):
                one.__init__ = _CHECK(one.__init__)


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, fullname, path, target=None):
        if fullname.partition(".")[0] != "dnc_jax":
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec and isinstance(spec.loader, importlib.machinery.SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


def install():
    """From now on; modules that are imported already stay as they are."""
    sys.meta_path.insert(0, _Finder())
