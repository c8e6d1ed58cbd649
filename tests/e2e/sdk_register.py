"""The official provisioning SDK. Runs in the SDK's own environment.

Arguments: host, path of the authority's certificate, port, id scope, registration id, and the proof: a key,
or the path of a file with a certificate and its key. Output: the outcome as JSON.
"""

import json
import sys

import paho.mqtt.client
from azure.iot.device import X509, ProvisioningDeviceClient
from azure.iot.device.exceptions import ClientError

host, authority, our_port, scope, registration_id, proof = sys.argv[1:]

# The SDK has no setting for the port, and 8883 may be taken on this machine.
connect = paho.mqtt.client.Client.connect
paho.mqtt.client.Client.connect = lambda self, host, port, keepalive: connect(
    self, host, int(our_port), keepalive
)

with open(authority) as file:
    trust = file.read()
if not proof.endswith(".pem"):
    client = ProvisioningDeviceClient.create_from_symmetric_key(
        host, registration_id, scope, proof, server_verification_cert=trust
    )
else:
    client = ProvisioningDeviceClient.create_from_x509_certificate(
        host, registration_id, scope, X509(proof, proof), server_verification_cert=trust
    )
try:
    result = client.register()
    state = result.registration_state
    said = {"status": result.status, "device": state.device_id, "hub": state.assigned_hub}
except ClientError as error:
    said = {"error": type(error).__name__, "cause": str(error.__cause__)}
print(json.dumps(said))
