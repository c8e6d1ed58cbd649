"""The official service SDK, driven by JSON lines. Runs in the SDK's own environment.

Argument: connection string. Input: one `{"do": method, "with": [argument, …]}` a line; an argument
`{"model": name, …}` is made into the SDK's class of that name. Output: one `{"result": …}` or
`{"status": …, "error": …}` a line.
"""

import json
import sys

from azure.iot.hub import IoTHubRegistryManager
from azure.iot.hub.protocol import models
from msrest.exceptions import HttpOperationError
from msrest.serialization import Model

registry = IoTHubRegistryManager.from_connection_string(sys.argv[1])


def made(argument):
    if isinstance(argument, list):
        return [made(part) for part in argument]
    if isinstance(argument, dict) and "model" in argument:
        fields = {name: made(value) for name, value in argument.items() if name != "model"}
        return getattr(models, argument["model"])(**fields)
    return argument


def shown(result):
    if isinstance(result, list):
        return [shown(part) for part in result]
    if isinstance(result, Model):
        return result.as_dict()
    if hasattr(result, "items"):
        return {"type": result.type, "items": shown(result.items), "token": result.continuation_token}
    return result


for line in sys.stdin:
    command = json.loads(line)
    try:
        said = {"result": shown(getattr(registry, command["do"])(*map(made, command["with"])))}
    except HttpOperationError as error:
        said = {"status": error.response.status_code, "error": error.response.text}
    print(json.dumps(said), flush=True)
