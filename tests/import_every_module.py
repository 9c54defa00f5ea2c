"""Imports every module of bulba and callbacks; run with the core install alone, so that extras stay optional."""

import importlib
import importlib.util
import pkgutil

import bulba
import callbacks

# Attention imports kernels where it runs them; torch brings triton for CUDA alone.
has_triton = importlib.util.find_spec("triton") is not None
names = [
    module.name
    for package in (bulba, callbacks)
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    if not module.name.endswith("__main__") and (has_triton or not module.name.startswith("bulba.kernels."))
]
for name in names:
    importlib.import_module(name)
print(f"{len(names)} modules imported")
