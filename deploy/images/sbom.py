#!/usr/bin/env python3
"""sbom.py IMAGE.tar PACKAGE: what is in an image, as SPDX 2.3 in JSON: the crates that are linked into its program, as
Cargo.lock has them, and Debian's packages, as the image itself names them."""

import hashlib
import json
import re
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
TARGETS = {"amd64": "x86_64-unknown-linux-gnu", "arm64": "aarch64-unknown-linux-gnu"}
STATUS = "var/lib/dpkg/status.d/"


def read_image(archive):
    """The image's configuration, and its files by path."""
    with tarfile.open(archive) as outer:
        manifest = json.load(outer.extractfile("manifest.json"))[0]
        config = outer.extractfile(manifest["Config"]).read()
        files = {}
        for layer in manifest["Layers"]:
            with tarfile.open(fileobj=outer.extractfile(layer)) as inner:
                for entry in inner:
                    if entry.isfile():
                        files[entry.name.removeprefix("./")] = inner.extractfile(entry).read()
    return config, files


def crates(package, target):
    """Name, version, licence and whether it is of this repository, for the program and each crate linked into it."""
    # Not `cargo metadata`: that adds the features which other members of the workspace ask for.
    tree = ["cargo", "tree", "--locked", "--package", package, "--target", target]
    tree += ["--edges", "normal,no-proc-macro", "--prefix", "none", "--format", "{p}|{l}"]
    output = subprocess.run(tree, cwd=REPOSITORY, check=True, text=True, stdout=subprocess.PIPE).stdout
    for line in sorted({line.removesuffix(" (*)") for line in output.splitlines()}):
        crate, licence = line.split("|")
        name, version, *path = crate.split(" ", 2)
        yield name, version.removeprefix("v"), licence.replace("/", " OR "), bool(path)


def fields(text):
    """The one-line fields of a paragraph of dpkg's."""
    return dict(re.findall(r"^([A-Za-z-]+): (.*)$", text, re.MULTILINE))


def spdx_id(*words):
    return "SPDXRef-" + re.sub(r"[^A-Za-z0-9.-]", "-", "-".join(words))


def entry(identity, name, version, purpose, declared="NOASSERTION", concluded=None, purl=None, checksum=None, **more):
    made = {
        "SPDXID": identity,
        "name": name,
        "versionInfo": version,
        "primaryPackagePurpose": purpose,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": False,
        "licenseDeclared": declared,
        "licenseConcluded": concluded or declared,
        "copyrightText": "NOASSERTION",
    }
    if purl:
        reference = {"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": purl}
        made["externalRefs"] = [reference]
    if checksum:
        made["checksums"] = [{"algorithm": "SHA256", "checksumValue": checksum}]
    return made | more


def document(archive, package):
    raw_config, content = read_image(archive)
    config = json.loads(raw_config)
    labels = config["config"]["Labels"]
    architecture = config["architecture"]
    version = labels["org.opencontainers.image.version"]
    image_name = f"{package}:{version}"
    image_digest = hashlib.sha256(raw_config).hexdigest()
    lock = tomllib.loads((REPOSITORY / "Cargo.lock").read_text())
    checksums = {(one["name"], one["version"]): one.get("checksum") for one in lock["package"]}

    image, program = spdx_id("image"), spdx_id("crate", package, version)
    packages = [entry(image, image_name, version, "CONTAINER", checksum=image_digest)]
    files = []
    relations = [("SPDXRef-DOCUMENT", "DESCRIBES", image), (image, "CONTAINS", program)]

    def contains(owner, path):
        data = content[path]
        identity = spdx_id("file", path)
        sums = [("SHA1", hashlib.sha1(data)), ("SHA256", hashlib.sha256(data))]
        files.append({
            "SPDXID": identity,
            "fileName": f"./{path}",
            "checksums": [{"algorithm": name, "checksumValue": made.hexdigest()} for name, made in sums],
            "licenseConcluded": "NOASSERTION",
            "copyrightText": "NOASSERTION",
        })
        relations.append((owner, "CONTAINS", identity))

    for name, number, licence, ours in crates(package, TARGETS[architecture]):
        identity = spdx_id("crate", name, number)
        if identity == program:
            whole = labels["org.opencontainers.image.licenses"]
            packages.append(entry(identity, name, number, "APPLICATION", licence, whole))
            continue
        purl = None if ours else f"pkg:cargo/{name}@{number}"
        packages.append(
            entry(identity, name, number, "LIBRARY", licence, purl=purl, checksum=checksums[name, number])
        )
        relations.append((program, "STATIC_LINK", identity))
    contains(program, f"usr/bin/{package}")

    owned = {f"usr/bin/{package}"}
    for path in sorted(content):
        if not path.startswith(STATUS) or path.endswith(".md5sums"):
            continue
        debian = fields(content[path].decode())
        name, number = debian["Package"], debian["Version"]
        identity = spdx_id("debian", name)
        source = debian.get("Source", name)
        packages.append(entry(
            identity, name, number, "LIBRARY",
            purl=f"pkg:deb/debian/{name}@{number}?arch={debian['Architecture']}".replace("+", "%2B"),
            supplier=f"Organization: {debian['Maintainer']}",
            sourceInfo=f"Debian source package {source}",
            licenseComments=f"/usr/share/doc/{name}/copyright in the image",
        ))
        relations += [(image, "CONTAINS", identity), (program, "DYNAMIC_LINK", identity)]
        for line in content[f"{path}.md5sums"].decode().splitlines():
            file = line.split("  ", 1)[1]
            contains(identity, file)
            owned.add(file)
    strangers = [path for path, data in content.items() if data.startswith(b"\x7fELF") and path not in owned]
    if strangers:
        sys.exit(f"sbom.py: from no package: {', '.join(sorted(strangers))}")

    return {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": image_name,
        "documentNamespace": f"https://notrack.dev/spdx/{package}-{version}-{image_digest}",
        "creationInfo": {
            # The image's own date: the same image gives the same document.
            "created": re.sub(r"\.\d+", "", config["created"]),
            "creators": ["Tool: notrack-sbom.py"],
        },
        "packages": packages,
        "files": files,
        "relationships": [
            {"spdxElementId": one, "relationshipType": kind, "relatedSpdxElement": other}
            for one, kind, other in relations
        ],
    }


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    json.dump(document(*sys.argv[1:]), sys.stdout, indent=1)
    print()
