// One line to the agent for all tabs of a browser: a browser opens only a few to a server, and with one for each tab the
// seventh would wait for ever. Runs as a shared worker.
const EVENTS = "/screen/live";
const PAUSE = 5000;
const ports = new Set();
let source = null;
let last = null;

function tell(message) {
  for (const port of ports) port.postMessage(message);
}

function open() {
  source = new EventSource(EVENTS);
  source.addEventListener("state", (event) => {
    last = event.data;
    tell({ state: last });
  });
  source.onerror = () => {
    tell({ lost: true });
    // A browser tries again by itself, unless it was refused.
    if (source.readyState === EventSource.CLOSED) setTimeout(open, PAUSE);
  };
}

self.onconnect = (event) => {
  const port = event.ports[0];
  ports.add(port);
  port.onmessage = (message) => {
    if (message.data === "bye") ports.delete(port);
  };
  if (source === null) open();
  else if (last !== null && source.readyState === EventSource.OPEN) port.postMessage({ state: last });
};
