// The official Node provisioning SDK over HTTPS, with a symmetric key.
//
// Arguments: host, HTTPS port, id scope, registration id, key. Output: the outcome as JSON.
// The SDK has no setting for its port, so connections to 443 are led to ours.
'use strict';

const tls = require('tls');
const [host, port, scope, registrationId, key] = process.argv.slice(2);
const connect = tls.connect;
tls.connect = (options, ...more) => connect(options.port === 443 ? { ...options, port: Number(port) } : options, ...more);

const { Http } = require('azure-iot-provisioning-device-http');
const { ProvisioningDeviceClient } = require('azure-iot-provisioning-device');
const { SymmetricKeySecurityClient } = require('azure-iot-security-symmetric-key');

const client = ProvisioningDeviceClient.create(host, scope, new Http(), new SymmetricKeySecurityClient(registrationId, key));
client.register()
  .then((state) => console.log(JSON.stringify({ status: state.status, device: state.deviceId, hub: state.assignedHub })))
  .catch((error) => console.log(JSON.stringify({ error: error.name })));
