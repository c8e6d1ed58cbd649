"""A module client made of the official SDK, driven by JSON lines. Runs in the SDK's own environment.

Arguments: connection string, path of the authority's certificate, port, and `websockets` for MQTT over
WebSocket or `ttl=N` for tokens that live N seconds. A connection string without a module makes a device
client; one with `x509=true` a device client by the certificate and key in the file that the fourth argument
names. Input: one `{"do": …, "with": […]}` a line. Output: one `{"event": …, …}` a line, the outcome of a
command or something that came by itself.
"""

import json
import sys
import threading
import time

import paho.mqtt.client
from azure.iot.device import X509, IoTHubDeviceClient, IoTHubModuleClient, Message, MethodResponse
from azure.iot.device.exceptions import ClientError, NoConnectionError

connection_string, authority, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
websockets = sys.argv[4:] == ["websockets"]
ttl = next((int(flag[4:]) for flag in sys.argv[4:] if flag.startswith("ttl=")), 3600)


mouth = threading.Lock()


def say(event, **more):
    with mouth:
        print(json.dumps({"event": event, **more}), flush=True)


# The SDK has no setting for the port, and 8883 may be taken on this machine.
connect_to = paho.mqtt.client.Client.connect


def connect_to_our_port(self, host, port_, keepalive):
    assert port_ == (443 if websockets else 8883)
    return connect_to(self, host, port, keepalive)


paho.mqtt.client.Client.connect = lambda self, host, port, keepalive: connect_to_our_port(
    self, host, port, keepalive
)

with open(authority) as file:
    options = {
        "server_verification_cert": file.read(),
        "connection_retry_interval": 1,
        "websockets": websockets,
    }
if "x509=true" in connection_string:
    parts = dict(part.split("=", 1) for part in connection_string.split(";"))
    certificate = X509(cert_file=sys.argv[4], key_file=sys.argv[4])
    client = IoTHubDeviceClient.create_from_x509_certificate(
        certificate, parts["HostName"], parts["DeviceId"], **options
    )
else:
    kind = IoTHubModuleClient if "ModuleId=" in connection_string else IoTHubDeviceClient
    client = kind.create_from_connection_string(connection_string, sastoken_ttl=ttl, **options)
client.on_connection_state_change = lambda: say("connection", connected=client.connected)


def listen():
    """Subscribe to desired changes; the SDK connects for it."""
    client.on_twin_desired_properties_patch_received = lambda patch: say("desired", patch=patch)


def serve_methods():
    """Answer direct methods with their own payload; the SDK connects and subscribes for it."""

    def answer(request):
        say("method", name=request.name, payload=request.payload)
        client.send_method_response(MethodResponse.create_from_method_request(request, 201, request.payload))

    client.on_method_request_received = answer


def hear_messages():
    """Say what messages come; the SDK connects and subscribes for it."""
    client.on_message_received = lambda message: say(
        "message",
        body=message.data.decode(),
        id=message.message_id,
        properties=message.custom_properties,
    )


def send(text, properties, message_id):
    message = Message(text, message_id=message_id, content_encoding="utf-8", content_type="application/json")
    message.custom_properties.update(properties)
    while True:
        try:
            return client.send_message(message)
        except NoConnectionError:  # the SDK keeps nothing while it is offline: that is the application's task
            time.sleep(0.1)


COMMANDS = {
    "connect": client.connect,
    "listen": listen,
    "serve methods": serve_methods,
    "hear messages": hear_messages,
    "send": send,
    "twin": client.get_twin,
    "report": client.patch_twin_reported_properties,
    "shutdown": client.shutdown,
}

for line in sys.stdin:
    command = json.loads(line)
    name, arguments = command.pop("do"), command.pop("with", [])
    try:
        say(name, result=COMMANDS[name](*arguments))
    except ClientError as error:
        say(name, error=type(error).__name__, cause=str(error.__cause__))
