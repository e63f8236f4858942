// What the page knows: the ports as they are now and their rates for some minutes, and the last events. Nothing is asked
// of the daemon while nobody looks at the page.

import { get, lines, request } from "./api.js";

/** Samples that are kept of each port; one a second. */
export const KEPT = 300;
/** Events that are kept. */
const EVENTS = 500;
const SECOND = 1000;

/** The ports as the daemon lists them, each with `id` and `rates`. */
export let ports = [];
/** The last events, the newest last. */
export const events = [];
/** Number of events that came, those that are gone included. */
export let eventCount = 0;

const histories = new Map();
const listeners = new Set();
let last = 0;
let running = null;

/** Has `listener` called behind each sample and each event; returns a function that ends this. */
export function listen(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

function tell(what) {
  for (const listener of listeners) listener(what);
}

export const portId = (network, port) => `${network}/${port}`;
export const find = (id) => ports.find((port) => port.id === id);
export const networks = () => [...new Set(ports.map((port) => port.network))].sort();
export const sum = (drops) => Object.values(drops).reduce((total, value) => total + value, 0);
export const historyOf = (id) => histories.get(id);

/** The rates of a port for some minutes: a ring of samples. */
class History {
  constructor() {
    this.rx = new Float64Array(KEPT);
    this.tx = new Float64Array(KEPT);
    this.drops = new Float64Array(KEPT);
    this.length = 0;
    this.at = 0;
    this.last = null;
  }

  /** Takes counters, `seconds` behind the ones before. Counters that begin anew give no rate. */
  add(counters, seconds) {
    const now = { rx: counters.rx_octets, tx: counters.tx_octets, drops: sum(counters.drops), reasons: counters.drops };
    const before = this.last;
    this.last = now;
    const fresh = before === null || now.rx < before.rx || now.tx < before.tx || now.drops < before.drops;
    const per = (name, factor) => (fresh || seconds <= 0 ? 0 : ((now[name] - before[name]) * factor) / seconds);
    this.rx[this.at] = per("rx", 8);
    this.tx[this.at] = per("tx", 8);
    this.drops[this.at] = per("drops", 1);
    this.reasons = {};
    for (const [reason, value] of Object.entries(now.reasons)) {
      const more = fresh ? 0 : value - (before.reasons[reason] ?? 0);
      this.reasons[reason] = seconds > 0 ? more / seconds : 0;
    }
    this.at = (this.at + 1) % KEPT;
    this.length = Math.min(this.length + 1, KEPT);
  }

  /** The samples in order, the newest last. */
  series(name, most = KEPT) {
    const length = Math.min(this.length, most);
    return Array.from({ length }, (_, i) => this[name][(this.at - length + i + KEPT) % KEPT]);
  }

  newest(name) {
    return this.length === 0 ? 0 : this[name][(this.at - 1 + KEPT) % KEPT];
  }
}

async function sample(signal) {
  const list = await get("/v1/ports", { signal });
  const now = performance.now();
  // Behind a pause the counters of before say nothing about now.
  const seconds = last === 0 || now - last > 5 * SECOND ? 0 : (now - last) / SECOND;
  last = now;
  const seen = new Set();
  for (const port of list) {
    port.id = portId(port.network, port.port);
    seen.add(port.id);
    let history = histories.get(port.id);
    if (!history) histories.set(port.id, (history = new History()));
    history.add(port.counters, seconds);
    port.rates = { rx: history.newest("rx"), tx: history.newest("tx"), drops: history.newest("drops"), reasons: history.reasons };
    port.dropped = sum(port.counters.drops);
  }
  for (const id of histories.keys()) if (!seen.has(id)) histories.delete(id);
  ports = list;
  tell("ports");
}

const pause = (time, signal) =>
  new Promise((resolve) => {
    const timer = setTimeout(resolve, time);
    signal.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });

async function repeat(signal, work, time, trouble) {
  while (!signal.aborted) {
    const start = performance.now();
    try {
      await work(signal);
      trouble(null);
    } catch (error) {
      if (signal.aborted) return;
      trouble(error);
    }
    await pause(Math.max(50, time - (performance.now() - start)), signal);
  }
}

function keep(event) {
  eventCount += 1;
  events.push({ number: eventCount, ...event });
  if (events.length > EVENTS) events.splice(0, events.length - EVENTS);
}

async function follow(signal) {
  const response = await request("GET", "/v1/events", { signal });
  await lines(response, (line) => {
    keep(JSON.parse(line));
    tell("events");
  });
}

function start(trouble) {
  const controller = new AbortController();
  repeat(controller.signal, sample, SECOND, trouble);
  // What is wrong with the stream is wrong with the samples as well, which say so.
  repeat(controller.signal, follow, 2 * SECOND, () => {});
  return controller;
}

/** Samples and follows while the page is visible. `trouble` is told what is wrong, or `null`. */
export function run(trouble) {
  const update = () => {
    if (document.visibilityState === "visible") {
      if (!running) {
        if (eventCount > 0) keep({ time: new Date().toISOString(), event: "page_shown", note: "events before were missed" });
        running = start(trouble);
      }
    } else {
      running?.abort();
      running = null;
    }
  };
  document.addEventListener("visibilitychange", update);
  update();
}
