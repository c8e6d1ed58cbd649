// The official Node SDKs, service and device, in one program: many devices, a module, mail, and a change of keys.
//
// Arguments: service connection string (host name alone), HTTPS port, MQTT port, connection string of a device that
// a message waits for. Output: one JSON line a step.
'use strict';

const [serviceConnection, httpsPort, mqttPort, waitedFor] = process.argv.slice(2);
require('./node_ports.js').lead({ 443: Number(httpsPort), 8883: Number(mqttPort) });

const { Client: ServiceClient, Registry } = require('azure-iothub');
const { Client: DeviceClient, ModuleClient } = require('azure-iot-device');
const { Mqtt } = require('azure-iot-device-mqtt');

const say = (step, result) => console.log(JSON.stringify({ step, result }));
const host = /HostName=([^;]+)/.exec(serviceConnection)[1];
const registry = Registry.fromConnectionString(serviceConnection);
const service = ServiceClient.fromConnectionString(serviceConnection);

async function bulk() {
  const made = await registry.addDevices([{ deviceId: 'b1' }, { deviceId: 'b2' }]);
  say('bulk', made.responseBody.isSuccessful);
  await registry.addDevices([{ deviceId: 'b2' }, { deviceId: 'b3' }]).catch((error) => say('bulk again', error.name));
  const query = registry.createQuery('SELECT * FROM devices', 1);
  const pages = [];
  do {
    pages.push((await query.nextAsTwin()).result.map((found) => found.deviceId));
  } while (query.hasMoreResults);
  say('pages', pages);
}

async function aModule() {
  const made = (await registry.addModule({ deviceId: 'b1', moduleId: 'agent' })).responseBody;
  const key = made.authentication.symmetricKey.secondaryKey;
  const client = ModuleClient.fromConnectionString(`HostName=${host};DeviceId=b1;ModuleId=agent;SharedAccessKey=${key}`, Mqtt);
  await client.open();
  client.onMethod('restart', (request, response) => response.send(202, { got: request.payload }));
  const twin = await client.getTwin();
  const desired = new Promise((resolve) => twin.on('properties.desired.rate', resolve));
  const owned = (await registry.getModuleTwin('b1', 'agent')).responseBody;
  await registry.updateModuleTwin('b1', 'agent', { properties: { desired: { rate: 5 } } }, owned.etag);
  say('module desired', await desired);
  await registry
    .updateModuleTwin('b1', 'agent', { properties: { desired: { rate: 6 } } }, owned.etag)
    .catch((error) => say('module twin outdated', error.name));
  const call = { methodName: 'restart', payload: 7, responseTimeoutInSeconds: 15, connectTimeoutInSeconds: 5 };
  say('module method', (await service.invokeDeviceMethod('b1', 'agent', call)).result);
  const slow = { ...call, methodName: 'nobody hears', responseTimeoutInSeconds: 5 };
  await service.invokeDeviceMethod('b1', 'agent', slow).then(
    (answer) => say('method without an answer', answer.result.status),
    (error) => say('method without an answer', error.name)
  );
  await client.close();
}

async function mail() {
  const device = DeviceClient.fromConnectionString(waitedFor, Mqtt);
  const came = new Promise((resolve) => device.on('message', resolve));
  await device.open();
  const message = await came;
  await device.complete(message);
  say('message', { id: message.messageId, body: message.data.toString(), colour: message.properties.getValue('colour') });
  await device.close();
}

async function rotation() {
  const owned = (await registry.get('b2')).responseBody;
  const old = owned.authentication.symmetricKey;
  const keys = { primaryKey: 'bmV3IGtleSBmb3IgdmFsdmU=', secondaryKey: old.secondaryKey };
  await registry.update({ ...owned, authentication: { type: 'sas', symmetricKey: keys } });
  for (const key of [old.primaryKey, old.secondaryKey, keys.primaryKey]) {
    const device = DeviceClient.fromConnectionString(`HostName=${host};DeviceId=b2;SharedAccessKey=${key}`, Mqtt);
    await device.open().then(
      () => say('key', 'opens'),
      (error) => say('key', error.name)
    );
    await device.close().catch(() => undefined);
  }
}

(async () => {
  await bulk();
  await aModule();
  await mail();
  await rotation();
  process.exit(0);
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
