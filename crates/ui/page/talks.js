// Who talks to whom: the counters of ports do not say, so a short capture of headers does, again and again while it is
// wanted. It ends after some frames or after a second, whichever is first, so that it costs little however much passes.

import { get, part, request } from "./api.js";
import { frames } from "./pcapng.js";

const FRAMES = 400;
const TIME = 1000;
const LARGEST = 1 << 20;

async function octetsOf(network, stop) {
  const controller = new AbortController();
  const abort = () => controller.abort();
  stop.addEventListener("abort", abort, { once: true });
  const timer = setTimeout(abort, TIME);
  const pieces = [];
  let length = 0;
  const start = performance.now();
  try {
    const body = JSON.stringify({ ports: [network], snaplen: 14, count: FRAMES });
    const response = await request("POST", "/v1/capture", { body, signal: controller.signal });
    const reader = response.body.getReader();
    while (length < LARGEST) {
      const { done, value } = await reader.read();
      if (done) break;
      pieces.push(value);
      length += value.length;
    }
  } catch (error) {
    if (!controller.signal.aborted) throw error;
  } finally {
    clearTimeout(timer);
    stop.removeEventListener("abort", abort);
    controller.abort();
  }
  const octets = new Uint8Array(length);
  let at = 0;
  for (const piece of pieces) {
    octets.set(piece, at);
    at += piece.length;
  }
  return { octets, seconds: Math.max(0.001, (performance.now() - start) / 1000) };
}

/** Bits a second between ports now: a list of `{from, to, rate}` with the ids of ports; `to` is `null` for floods. */
export async function talks(network, signal) {
  const { octets, seconds: waited } = await octetsOf(network, signal);
  const fdb = await get(`/v1/networks/${part(network)}/fdb`, { signal });
  const behind = new Map(fdb.map((entry) => [entry.mac, `${network}/${entry.port}`]));
  const sums = new Map();
  const list = frames(octets);
  const times = list.map((frame) => frame.time);
  // A full sample took as long as its frames say, which can be much less than it took to come here.
  const full = list.length >= FRAMES;
  const seconds = full ? Math.max(1e-6, Math.max(...times) - Math.min(...times)) : waited;
  for (const frame of list) {
    const to = behind.get(frame.to) ?? null;
    const pair = JSON.stringify([frame.port, to]);
    sums.set(pair, (sums.get(pair) ?? 0) + frame.octets * 8);
  }
  return [...sums].map(([pair, bits]) => {
    const [from, to] = JSON.parse(pair);
    return { from, to, rate: bits / seconds };
  });
}
