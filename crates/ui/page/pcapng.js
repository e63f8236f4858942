// Reads as much of a capture (pcapng) as tells who sent how much to whom: interfaces, and the length and addresses of each
// frame. What makes no sense ends the reading.

const INTERFACE = 1;
const FRAME = 6;
const SECTION = 0x0a0d0d0a;
const NAME = 2;
const OUTBOUND = 2;

/** The value of an option of a block, as octets. */
function option(view, offset, end, wanted) {
  while (offset + 4 <= end) {
    const code = view.getUint16(offset, true);
    const length = view.getUint16(offset + 2, true);
    if (code === 0 || offset + 4 + length > end) return null;
    if (code === wanted) return { offset: offset + 4, length };
    offset += 4 + length + ((4 - (length % 4)) % 4);
  }
  return null;
}

function mac(octets, offset) {
  return Array.from(octets.subarray(offset, offset + 6), (octet) => octet.toString(16).padStart(2, "0")).join(":");
}

/** The time of a frame, in seconds; the daemon writes nanoseconds. */
function time(view, offset) {
  return (view.getUint32(offset + 12, true) * 2 ** 32 + view.getUint32(offset + 16, true)) / 1e9;
}

/** The frames of a capture: `{port, from, to, octets, time}`, in seconds; a frame that leaves a port is not among them. */
export function frames(octets) {
  const view = new DataView(octets.buffer, octets.byteOffset, octets.byteLength);
  const interfaces = [];
  const found = [];
  let offset = 0;
  while (offset + 12 <= octets.length) {
    const type = view.getUint32(offset, true);
    const length = view.getUint32(offset + 4, true);
    if (length < 12 || length % 4 !== 0 || offset + length > octets.length) break;
    const end = offset + length - 4;
    if (type === SECTION) interfaces.length = 0;
    if (type === INTERFACE) {
      const name = option(view, offset + 16, end, NAME);
      interfaces.push(name ? new TextDecoder().decode(octets.subarray(name.offset, name.offset + name.length)) : "?");
    }
    if (type === FRAME && length >= 32) {
      const kept = view.getUint32(offset + 20, true);
      const data = offset + 28;
      const options = data + kept + ((4 - (kept % 4)) % 4);
      if (options > end) break;
      const flags = option(view, options, end, 2);
      const outbound = flags && flags.length === 4 && (view.getUint32(flags.offset, true) & 3) === OUTBOUND;
      const port = interfaces[view.getUint32(offset + 8, true)];
      if (!outbound && port !== undefined && kept >= 12) {
        found.push({ port, to: mac(octets, data), from: mac(octets, data + 6), octets: view.getUint32(offset + 24, true), time: time(view, offset) });
      }
    }
    offset += length;
  }
  return found;
}
