// Requests. Each carries the key, which the link to the page brought and which only this origin has.

const STORED = "vmlan-key";

let key = null;

/** Takes the key out of the address, where it would be seen, or out of the storage; false when there is none. */
export function takeKey() {
  const found = /^#key=([0-9a-f]+)$/.exec(location.hash);
  if (found) {
    localStorage.setItem(STORED, found[1]);
    history.replaceState(null, "", "/");
  }
  key = localStorage.getItem(STORED);
  return key !== null;
}

/** An answer that is an error. */
export class Refused extends Error {
  constructor(status, error) {
    super(error.message);
    this.status = status;
    this.details = error.details ?? [];
    this.field = error.field ?? null;
  }
}

/** Asks, and throws `Refused` unless it is answered. */
export async function request(method, path, { body, signal } = {}) {
  const response = await fetch(path, { method, body, signal, headers: { "vmlan-key": key ?? "" }, cache: "no-store" });
  if (response.ok) return response;
  const text = await response.text();
  let error = { message: text.trim() || `status ${response.status}` };
  try {
    error = JSON.parse(text);
  } catch {
    // A text for people, as it is.
  }
  throw new Refused(response.status, error);
}

export const get = async (path, options) => (await request("GET", path, options)).json();
export const getText = async (path, options) => (await request("GET", path, options)).text();
export const post = async (path, body) => (await request("POST", path, { body })).json();

/** Hands each line of a stream to `take`, until it ends. */
export async function lines(response, take) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let pending = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const parts = (pending + value).split("\n");
    pending = parts.pop();
    if (pending.length > 1 << 20) throw new Error("a line without end");
    for (const line of parts) if (line !== "") take(line);
  }
}

/** A part of a path. */
export const part = encodeURIComponent;
