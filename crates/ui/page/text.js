// Numbers and other values in words.

const UNITS = ["", "k", "M", "G", "T"];

function scaled(value, unit) {
  let step = 0;
  while (value >= 1000 && step < UNITS.length - 1) {
    value /= 1000;
    step += 1;
  }
  const digits = value >= 100 || Number.isInteger(value) ? 0 : 1;
  return `${value.toFixed(digits)} ${UNITS[step]}${unit}`;
}

/** Bits a second. */
export const bitRate = (value) => scaled(value, "bit/s");
/** Events a second. */
export const rate = (value) => `${value >= 10 || value === 0 ? Math.round(value) : value.toFixed(1)}/s`;
/** Octets. */
export const octets = (value) => scaled(value, "B");
/** A count. */
export const count = (value) => value.toLocaleString("en");
/** What is there, or a dash. */
export const orDash = (value) => (value === null || value === undefined || value === "" ? "–" : String(value));

/** Seconds. */
export function age(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 60) return `${Math.round(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86400)} d`;
}

/** The VLAN of a port. */
export function vlan(value) {
  if (!value) return "–";
  if (value.access !== undefined && value.access !== null) return `${value.access}`;
  const tagged = value.tagged ?? value.trunk ?? [];
  const list = Array.isArray(tagged) ? tagged.join(" ") : String(tagged);
  return value.native ? `tagged ${list}, native ${value.native}` : `tagged ${list}`;
}

/** One or several. */
export const several = (value) => orDash(Array.isArray(value) ? value.join(" ") : value);
/** Shortens a list of addresses. */
export const few = (list) => (list.length > 2 ? `${list.slice(0, 2).join(" ")} +${list.length - 2}` : orDash(list.join(" ")));
