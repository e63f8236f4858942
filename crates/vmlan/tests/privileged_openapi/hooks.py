"""Limits what schemathesis does to this machine, and has it name what exists, so that not every answer is a refusal."""

import schemathesis

EXISTING = {"network": "lab", "port": "web"}


@schemathesis.hook
def before_call(context, case, kwargs):
    takes = {parameter["name"] for parameter in case.operation.definition.raw.get("parameters", ())}
    # A configuration of random text could run programs and make devices; and what is named below is to stay.
    if "dry_run" in takes:
        case.query = {**(case.query or {}), "dry_run": "true"}
    # Every second name that could be one becomes one that exists.
    for place in (case.path_parameters, case.query):
        for name, existing in EXISTING.items():
            text = (place or {}).get(name)
            if isinstance(text, str) and text and len(text) % 2 == 0:
                place[name] = existing
