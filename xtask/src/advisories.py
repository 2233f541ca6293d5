"""Looks up what is locked in a clone of https://github.com/rustsec/advisory-db: a line for each advisory, sorted.

usage: advisories.py <clone> <date of it> <Cargo.lock> <the list so far>

What the list has named once it goes on naming, so that a crate which comes back is compared too.
"""

import pathlib
import re
import sys
import tomllib

clone, date, lock, former = sys.argv[1:]
locked = tomllib.loads(pathlib.Path(lock).read_text(encoding="utf-8"))["package"]
packages = {package["name"] for package in locked if "source" in package}
for line in pathlib.Path(former).read_text(encoding="utf-8").splitlines():
    if not line.startswith("#"):
        packages.add(line.split("\t")[0])

lines = []
for package in packages:
    known = []
    for path in pathlib.Path(clone, "crates", package).glob("RUSTSEC-*.md"):
        front = re.search(r"```toml\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL)
        entry = tomllib.loads(front[1])
        advisory, versions = entry["advisory"], entry["versions"]
        if "withdrawn" not in advisory:
            kind = advisory.get("informational", "vulnerability")
            # Versions of either kind are good ones.
            good = " | ".join(versions.get("patched", []) + versions.get("unaffected", []))
            known.append("\t".join([package, advisory["id"], kind, good]))
    lines.extend(known or [f"{package}\tnone"])

print(f"# As known on {date}; looked up by `cargo xtask advisories`.")
print("# package, advisory, kind, versions that it does not concern")
print("\n".join(sorted(lines)))
