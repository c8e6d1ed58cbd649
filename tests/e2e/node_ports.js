// The SDKs have no setting for their ports: connections to one port are led to another.
'use strict';

const tls = require('tls');

exports.lead = (ports) => {
  const connect = tls.connect;
  tls.connect = (options, ...more) => {
    if (typeof options === 'object' && ports[options.port]) {
      options = { ...options, port: ports[options.port] };
    }
    return connect(options, ...more);
  };
};
