/**
 * Whether a text is an IP network in CIDR notation, such as `10.0.0.0/8` or `fc00::/7`, or a single IPv4 or IPv6
 * address. Bits after the prefix may be set, because upstream accepts them.
 */
export function isNetwork(text: string): boolean {
  const [address = "", prefix, ...rest] = text.split("/");
  if (rest.length > 0) return false;
  const width = isIpv4(address) ? 32 : isIpv6(address) ? 128 : undefined;
  if (width === undefined) return false;
  return prefix === undefined || (/^(?:0|[1-9]\d{0,2})$/.test(prefix) && Number(prefix) <= width);
}

function isIpv4(text: string): boolean {
  const parts = text.split(".");
  return parts.length === 4 && parts.every((part) => /^(?:0|[1-9]\d{0,2})$/.test(part) && Number(part) <= 255);
}

function isIpv6(text: string): boolean {
  const halves = text.split("::");
  if (halves.length > 2) return false;
  const [head = [], tail = []] = halves.map((half) => half === "" ? [] : half.split(":"));
  const groups = [...head, ...tail];
  const last = groups.at(-1);
  const endsInIpv4 = last !== undefined && last.includes(".");
  if (endsInIpv4 && !isIpv4(last)) return false;
  const hexGroups = endsInIpv4 ? groups.slice(0, -1) : groups;
  if (!hexGroups.every((group) => /^[0-9A-Fa-f]{1,4}$/.test(group))) return false;
  // An address with "::" leaves out at least one group, and an embedded IPv4 address must be at its end.
  if (endsInIpv4 && halves.length === 2 && tail.length === 0) return false;
  const count = hexGroups.length + (endsInIpv4 ? 2 : 0);
  return halves.length === 2 ? count <= 7 : count === 8;
}
