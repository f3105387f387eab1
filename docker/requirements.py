"""For the builds of images: ``python3 requirements.py EXTRAS`` prints what pyproject.toml here asks for,
``python3 requirements.py --installed NAME…`` prints what is installed of these, as constraints for pip.
"""

import sys
import tomllib
from importlib.metadata import PackageNotFoundError, version


def wanted(extras: list[str]) -> list[str]:
    """The dependencies, and those of the named extras."""
    with open("pyproject.toml", "rb") as file:
        project = tomllib.load(file)["project"]
    unknown = set(extras) - set(project["optional-dependencies"])
    if unknown:
        sys.exit(f"no such extra: {', '.join(sorted(unknown))}")
    return project["dependencies"] + [
        one for name in extras for one in project["optional-dependencies"][name]
    ]


def installed(names: list[str]) -> list[str]:
    found = []
    for name in names:
        try:
            found.append(f"{name}=={version(name)}")
        except PackageNotFoundError:
            continue
    return found


if __name__ == "__main__":
    first, rest = sys.argv[1], sys.argv[2:]
    lines = installed(rest) if first == "--installed" else wanted([one for one in first.split(",") if one])
    sys.stdout.writelines(f"{line}\n" for line in lines)
