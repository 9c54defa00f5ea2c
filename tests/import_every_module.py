"""Imports every module of bulba and callbacks; run with the core install alone, so that extras stay optional."""

import importlib
import pkgutil

import bulba
import callbacks

names = [
    module.name
    for package in (bulba, callbacks)
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    if not module.name.endswith("__main__")
]
for name in names:
    importlib.import_module(name)
print(f"{len(names)} modules imported")
