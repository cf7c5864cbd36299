"""Runs in a client's own virtual environment, with nothing of ours: calls what standard input asks
for, one JSON object a line, and answers each with one.

    python driver.py api|sdk HOST

Asks: {"token", "service", "method", "arguments"}. An argument {"@model": "ApiExperiment", ...} becomes
that class of kfp_server_api. Answers: {"found"} or {"error", "status", "body", "text"}.
"""

import json
import os
import sys
import warnings


def connect(kind, host, token):
    """Service name -> object with methods, as the client's documentation says to make it."""
    if kind == "sdk":
        import kfp

        return {"": kfp.Client(host=host, existing_token=token or None)}
    import kfp_server_api

    configuration = kfp_server_api.Configuration(host=host)
    if token:
        configuration.api_key["authorization"] = token
        configuration.api_key_prefix["authorization"] = "Bearer"
    client = kfp_server_api.ApiClient(configuration)
    return {
        "": kfp_server_api.ExperimentServiceApi(client),
        "healthz": kfp_server_api.HealthzServiceApi(client),
    }


def argument(value):
    if isinstance(value, dict) and "@model" in value:
        import kfp_server_api

        fields = {key: argument(item) for key, item in value.items() if key != "@model"}
        return getattr(kfp_server_api, value["@model"])(**fields)
    if isinstance(value, list):
        return [argument(item) for item in value]
    return value


def answer(ask, connections, kind, host):
    token = ask.get("token", "")
    try:
        if token not in connections:
            connections[token] = connect(kind, host, token)
        method = getattr(connections[token][ask.get("service", "")], ask["method"])
        found = method(**{key: argument(value) for key, value in ask["arguments"].items()})
    except Exception as error:
        return {
            "error": type(error).__name__,
            "status": getattr(error, "status", None),
            "body": getattr(error, "body", None),
            "text": str(error),
        }
    return {"found": found.to_dict() if hasattr(found, "to_dict") else found}


def main():
    kind, host = sys.argv[1:]
    warnings.simplefilter("ignore")
    # Clients print; only answers may stand in ours.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    connections = {}
    for line in sys.stdin:
        answers.write(json.dumps(answer(json.loads(line), connections, kind, host), default=str) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
