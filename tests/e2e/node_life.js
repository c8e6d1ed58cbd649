// The official Node SDKs, service and device, in one program: a device's life from registration to removal.
//
// Arguments: service connection string (host name alone), HTTPS port, MQTT port. Output: one JSON line a step.
'use strict';

const [serviceConnection, httpsPort, mqttPort] = process.argv.slice(2);
require('./node_ports.js').lead({ 443: Number(httpsPort), 8883: Number(mqttPort) });

const { Client: ServiceClient, Registry } = require('azure-iothub');
const { Client: DeviceClient, Message } = require('azure-iot-device');
const { Mqtt, MqttWs } = require('azure-iot-device-mqtt');

const say = (step, result) => console.log(JSON.stringify({ step, result }));
const host = /HostName=([^;]+)/.exec(serviceConnection)[1];

async function life(transport, id) {
  const registry = Registry.fromConnectionString(serviceConnection);
  const service = ServiceClient.fromConnectionString(serviceConnection);
  const made = (await registry.create({ deviceId: id })).responseBody;
  say('created', { id: made.deviceId, status: made.status });
  await registry.create({ deviceId: id }).catch((error) => say('created again', error.name));

  const key = made.authentication.symmetricKey.primaryKey;
  const device = DeviceClient.fromConnectionString(`HostName=${host};DeviceId=${id};SharedAccessKey=${key}`, transport);
  await device.open();
  device.onDeviceMethod('restart', (request, response) => response.send(202, { got: request.payload }));
  const twin = await device.getTwin();
  const desired = new Promise((resolve) => twin.on('properties.desired.rate', resolve));
  await new Promise((resolve, reject) => twin.properties.reported.update({ ok: true }, (e) => (e ? reject(e) : resolve())));
  await device.sendEvent(new Message(JSON.stringify({ n: 1 })));

  const owned = (await registry.getTwin(id)).responseBody;
  const change = { tags: { site: 'north' }, properties: { desired: { rate: 5 } } };
  const changed = (await registry.updateTwin(id, change, owned.etag)).responseBody;
  say('twin', { tags: changed.tags, reported: changed.properties.reported.ok, desired: await desired });
  await registry.updateTwin(id, change, owned.etag).catch((error) => say('twin outdated', error.name));

  const call = { methodName: 'restart', payload: { n: 1 }, responseTimeoutInSeconds: 15, connectTimeoutInSeconds: 5 };
  const answer = await service.invokeDeviceMethod(id, call);
  say('method', { status: answer.result.status, payload: answer.result.payload });

  const query = registry.createQuery("SELECT * FROM devices WHERE tags.site = 'north'", 10);
  say('query', (await query.nextAsTwin()).result.map((found) => found.deviceId));
  say('statistics', (await registry.getRegistryStatistics()).responseBody);

  await device.close();
  const module = (await registry.addModule({ deviceId: id, moduleId: 'agent' })).responseBody;
  say('module', [module.deviceId, module.moduleId]);
  await registry.delete(id);
  await registry.get(id).catch((error) => say('deleted', error.name));
}

(async () => {
  await life(Mqtt, 'by-mqtt');
  await life(MqttWs, 'by-websocket');
  process.exit(0);
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
