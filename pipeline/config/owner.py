"""How a place in the tree is called in a sentence: `consumer "charge"`, `runtime.log`.
Knows the names of the sections and nothing else."""

from pipeline.config.nodes import Path

KINDS = {"exchanges": "exchange", "queues": "queue", "producers": "producer", "consumers": "consumer"}


def owner(path: Path) -> str:
    """Whose key this is, for the path of the thing that holds the key."""
    if not path:
        return "the file"
    if path[0] in KINDS and len(path) > 1:
        named = f'{KINDS[str(path[0])]} "{path[1]}"'
        inner = dotted(path[2:])
        return f"`{inner}` of {named}" if inner else named
    return f"`{dotted(path)}`"


def dotted(path: Path) -> str:
    """The keys of a path, as a person would name them."""
    return ".".join(step for step in path if isinstance(step, str))
