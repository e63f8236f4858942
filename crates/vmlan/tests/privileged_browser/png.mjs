// Makes pictures of pages small: their few colours become a palette.

import { deflateSync, inflateSync, crc32 } from "node:zlib";

/** Crc32 of older versions of Node.js (PNG, annex D). */
function checksum(octets) {
  if (crc32) return crc32(octets);
  let sum = 0xffffffff;
  for (const octet of octets) {
    sum ^= octet;
    for (let bit = 0; bit < 8; bit += 1) sum = (sum >>> 1) ^ (sum & 1 ? 0xedb88320 : 0);
  }
  return (sum ^ 0xffffffff) >>> 0;
}

function chunk(name, data) {
  const body = Buffer.concat([Buffer.from(name, "latin1"), data]);
  const [length, sum] = [Buffer.alloc(4), Buffer.alloc(4)];
  length.writeUInt32BE(data.length);
  sum.writeUInt32BE(checksum(body));
  return Buffer.concat([length, body, sum]);
}

/** The pixels of a picture of eight bits a channel that is not interlaced (PNG 9.2). */
function pixels(png) {
  const [width, height, channels] = [png.readUInt32BE(16), png.readUInt32BE(20), png[25] === 6 ? 4 : 3];
  const parts = [];
  for (let at = 8; at < png.length; at += 12 + png.readUInt32BE(at)) {
    if (png.toString("latin1", at + 4, at + 8) === "IDAT") parts.push(png.subarray(at + 8, at + 8 + png.readUInt32BE(at)));
  }
  const raw = inflateSync(Buffer.concat(parts));
  const line = width * channels;
  const out = Buffer.alloc(line * height);
  for (let y = 0; y < height; y += 1) {
    const filter = raw[y * (line + 1)];
    for (let x = 0; x < line; x += 1) {
      const left = x >= channels ? out[y * line + x - channels] : 0;
      const up = y > 0 ? out[(y - 1) * line + x] : 0;
      const corner = x >= channels && y > 0 ? out[(y - 1) * line + x - channels] : 0;
      const guess = left + up - corner;
      const [a, b, c] = [left, up, corner].map((value) => Math.abs(guess - value));
      const paeth = a <= b && a <= c ? left : b <= c ? up : corner;
      out[y * line + x] = raw[y * (line + 1) + 1 + x] + [0, left, up, (left + up) >> 1, paeth][filter];
    }
  }
  return { width, height, channels, out };
}

/** The same picture with a palette: colours that are alike are one. */
export function small(png) {
  const { width, height, channels, out } = pixels(png);
  const counts = new Map();
  const colour = (at) => ((out[at] & 0xf8) << 16) | ((out[at + 1] & 0xf8) << 8) | (out[at + 2] & 0xf8);
  const exact = new Map();
  for (let at = 0; at < out.length; at += channels) {
    const key = colour(at);
    counts.set(key, (counts.get(key) ?? 0) + 1);
    // The first that is seen stands for those that are like it.
    if (!exact.has(key)) exact.set(key, [out[at], out[at + 1], out[at + 2]]);
  }
  const kept = [...counts].sort((one, other) => other[1] - one[1]).slice(0, 64).map(([key]) => key);
  const distance = (one, other) => exact.get(one).reduce((sum, value, i) => sum + (value - exact.get(other)[i]) ** 2, 0);
  const index = new Map();
  for (const key of counts.keys()) {
    index.set(key, kept.reduce((best, _, i) => (distance(key, kept[i]) < distance(key, kept[best]) ? i : best), 0));
  }
  const lines = Buffer.alloc((width + 1) * height);
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) lines[y * (width + 1) + 1 + x] = index.get(colour((y * width + x) * channels));
  }
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width);
  header.writeUInt32BE(height, 4);
  header.set([8, 3, 0, 0, 0], 8);
  const palette = Buffer.from(kept.flatMap((key) => exact.get(key)));
  const signature = png.subarray(0, 8);
  const data = deflateSync(lines, { level: 9 });
  return Buffer.concat([signature, chunk("IHDR", header), chunk("PLTE", palette), chunk("IDAT", data), chunk("IEND", Buffer.alloc(0))]);
}
