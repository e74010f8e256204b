"""Writer of THIRD-PARTY-LICENSES: the licence texts of the crates in the wheel.

    python tools/third_party_licences.py           write the file
    python tools/third_party_licences.py --check   fail if the file does not match Cargo.lock

The crates are the normal dependencies of quotaflow with all features, on the platforms of `deny.toml`. Crates that
only tests and build scripts use are not in the wheel. The texts are the licence files of each crate, as published.
"""

import argparse
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "THIRD-PARTY-LICENSES"
RULE = "-" * 100

LICENCE_FILE = re.compile(r"(?i)(licen[cs]e|copying|copyright|notice|unlicense)([-_.][^.]*)?(\.md|\.txt)?")

HEAD = """\
Licences of the third-party code in quotaflow
=============================================

The extension module of quotaflow is built from the crates listed here, from the standard library of Rust (MIT or
Apache-2.0, the Rust Project contributors) and, within the crates, from SQLite and the IANA time zone database
(both in the public domain). Where a crate offers a choice of licences, all of its texts are given.

This file is written by `make licences`. Do not edit it.
"""

# For crates that name this licence and ship no text of it.
MIT = """\
Copyright (c) {authors}

Permission is hereby granted, free of charge, to any person obtaining a copy
of this software and associated documentation files (the "Software"), to deal
in the Software without restriction, including without limitation the rights
to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all
copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
SOFTWARE.
"""


def linked_packages() -> list[dict[str, Any]]:
    """Return the crates of other authors that are in the wheel, by name and version."""
    platforms = tomllib.loads((ROOT / "deny.toml").read_text(encoding="utf-8"))["graph"]["targets"]
    command = ["cargo", "metadata", "--locked", "--all-features", "--format-version", "1"]
    for platform in platforms:
        command += ["--filter-platform", platform]
    metadata = json.loads(subprocess.check_output(command, cwd=ROOT))  # noqa: S603 - its arguments stand above
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    root = metadata["resolve"]["root"]
    linked, to_visit = set(), [root]
    while to_visit:
        identity = to_visit.pop()
        if identity not in linked:
            linked.add(identity)
            to_visit += [
                dependency["pkg"]
                for dependency in nodes[identity]["deps"]
                if any(kind["kind"] is None for kind in dependency["dep_kinds"])
            ]
    packages = [package for package in metadata["packages"] if package["id"] in linked - {root}]
    return sorted(packages, key=lambda package: (package["name"], package["version"]))


def licence_texts(package: dict[str, Any]) -> list[tuple[str, str]]:
    """Return name and text of each licence file of a crate."""
    folder = Path(package["manifest_path"]).parent
    files = sorted(path for path in folder.rglob("*") if LICENCE_FILE.fullmatch(path.name) and path.is_file())
    if files:
        texts = [file.read_text(encoding="utf-8", errors="replace") for file in files]
        return [(file.relative_to(folder).as_posix(), text) for file, text in zip(files, texts, strict=True)]
    name, licence = package["name"], package["license"]
    if licence != "MIT":
        sys.exit(f"{name} {package['version']} ships no licence text; add the text of {licence} to {__file__}")
    authors = ", ".join(package["authors"]) or f"the authors of {name}, {package['repository']}"
    return [("MIT", MIT.format(authors=authors))]


def third_party_licences() -> str:
    """Return the whole file; texts that differ only in white space stand once."""
    packages = linked_packages()
    owners: dict[str, list[str]] = {}
    texts: dict[str, str] = {}
    for package in packages:
        for name, text in licence_texts(package):
            key = " ".join(text.split())
            texts.setdefault(key, "\n".join(line.rstrip() for line in text.strip().splitlines()))
            owners.setdefault(key, []).append(f"{package['name']} {package['version']} ({name})")
    parts = [HEAD]
    parts += [f"{package['name']} {package['version']}: {package['license']}" for package in packages]
    for key, names in owners.items():
        parts += ["", RULE, *names, RULE, "", texts[key]]
    return "\n".join(parts) + "\n"


def main() -> None:
    """Write the file, or compare it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="fail if the file does not match Cargo.lock")
    check = parser.parse_args().check
    wanted = third_party_licences()
    if not check:
        TARGET.write_text(wanted, encoding="utf-8")
    elif not TARGET.is_file() or TARGET.read_text(encoding="utf-8") != wanted:
        sys.exit(f"{TARGET.name} does not match Cargo.lock: run `make licences` and commit the result")


if __name__ == "__main__":
    main()
