"""Holds answers of a Kubernetes API server against Kubernetes' own schemas, strictly. Argument: a file with a JSON list of them.
Prints the versions of Kubernetes whose schemas were used: the three newest that the package has."""

import functools
import json
import sys

from kubernetes_validate import utils


@functools.cache
def contents(filename, version, read=utils.schema_contents):
    """Read once for all answers. `Status` has no group of its own, and is filed under the one that defines it."""
    return read(filename.replace("/status-v1.json", "/status-meta-v1.json"), version)


utils.schema_contents = contents
newest = list(dict.fromkeys(utils.all_versions()))[-3:]
with open(sys.argv[1], encoding="utf-8") as file:
    answers = json.load(file)
for version in newest:
    for number, answer in enumerate(answers):
        try:
            utils.validate(answer, version, strict=True)
        except utils.ValidationError as error:
            place = ".".join(map(str, error.path))
            sys.exit(f"answer {number}, {answer['kind']}, for {version}: {place}: {error.message}")
print(*newest)
