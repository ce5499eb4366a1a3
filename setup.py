"""Which packages there are, and from which folders: every one of them must be named, so the folders are read.

`zeroloss` lies in `chaos/`, and what it holds from elsewhere in folders of their own beside it.
"""

from pathlib import Path

from setuptools import find_namespace_packages, setup

FOLDERS = {"zeroloss": "chaos", "zeroloss.reference": "reference", "zeroloss.loadtests": "loadtests"}
LEFT_OUT = ["bench", "bench.*", "*__pycache__*"]  # the bench stays in the repository
DATA = ["py.typed", "*.conf", "*.css", "*.go", "*.html", "*.j2", "*.js", "*.json", "*.mjs", "*.rb", "*.sh"]

packages = {
    ".".join([name, *inner.split(".")]) if inner else name: str(Path(folder, *inner.split(".")))
    for name, folder in FOLDERS.items()
    for inner in ["", *find_namespace_packages(folder, exclude=LEFT_OUT)]
}

# What MANIFEST.in takes into the source distribution, such as the bench, is not for the wheel.
setup(packages=list(packages), package_dir=packages, package_data={"": DATA}, include_package_data=False)
