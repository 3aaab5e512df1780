"""What a flow run is given: little enough for Prefect, whatever the size of the campaign."""

import hashlib

from pipelines.engine.engine import Prepared, allowed_plugins
from pipelines.run.driving import Options
from storage.errors import CampaignError
from storage.files.objects import Objects
from storage.reading.document import dump_yaml

MOST_BYTES = 100_000  # of a spec among the parameters of a run; Prefect takes half a million in all
FOLDER = "submitted"  # of the stores' root, for longer specs


def parameters(prepared: Prepared, options: Options) -> dict[str, object]:
    """Those of the flow for a campaign; a long spec is written to the root of the stores."""
    root = Objects(prepared.root)
    allowed = {"plugins": allowed_plugins(options.plugins), "folder": prepared.plugins.path}
    return {
        "name": prepared.spec.name,
        "spec": _handed(dump_yaml(prepared.spec), root),
        "root": root.url,
        "options": {**vars(options), **allowed, "only": list(options.only)},
    }


def _handed(text: str, root: Objects) -> str:
    """The spec itself, or the name under which it is kept: the digest of its text."""
    content = text.encode()
    if len(content) <= MOST_BYTES:
        return text
    name = f"{FOLDER}/{hashlib.sha256(content).hexdigest()}.yaml"
    root.create(name, content)
    return name


def spec(handed: str, root: str) -> str:
    """The YAML of a spec that was handed over. CampaignError where it cannot be read any more."""
    if not handed.startswith(f"{FOLDER}/"):
        return handed
    content = Objects(root).get(handed)
    if content is None or hashlib.sha256(content).hexdigest() not in handed:
        raise CampaignError(
            f"{root}/{handed}: the submitted spec is not there or not as it was; submit it again, "
            "to a --store that the workers see under the same name"
        )
    return content.decode()
