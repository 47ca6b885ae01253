"""The unchanged tritonclient over TLS, with an API token that may run `pcb-*`: tls.py GRPC HTTP CA TOKEN."""

import ssl
import sys

import tritonclient.grpc
import tritonclient.http
from tritonclient.utils import InferenceServerException

grpc, http, ca, token = sys.argv[1:]
headers = {"authorization": "Bearer " + token}


def trusting(*_args, **_kwargs):
    return ssl.create_default_context(cafile=ca)


def refused(call, status):
    try:
        call()
    except InferenceServerException as error:
        assert status in str(error.status()), error
        return
    raise AssertionError(f"not refused with {status}")


over_grpc = tritonclient.grpc.InferenceServerClient(grpc, ssl=True, root_certificates=ca)
over_http = tritonclient.http.InferenceServerClient(http, ssl=True, ssl_context_factory=trusting)
for client, nobody, forbidden in [(over_grpc, "UNAUTHENTICATED", "PERMISSION_DENIED"), (over_http, "401", "403")]:
    assert client.is_server_live() and client.is_server_ready()
    metadata = client.get_model_metadata("pcb-s", headers=headers)
    assert (metadata["name"] if isinstance(metadata, dict) else metadata.name) == "pcb-s"
    refused(lambda: client.get_model_metadata("pcb-s"), nobody)
    refused(lambda: client.get_model_metadata("steel-s", headers=headers), forbidden)
    refused(lambda: client.unload_model("pcb-s", headers=headers), forbidden)
print("all as it should be")
