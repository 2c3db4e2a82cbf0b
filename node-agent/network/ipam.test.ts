import test from "ava";
import { allocate, capacityOf, contains, formatCidr, formatIpv4, gatewayOf, parseCidr, parseIpv4 } from "./ipam.ts";

const range = parseCidr("10.1.2.0/29", "podCidr");

test("addresses and ranges are read and written, also above 128.0.0.0", (t) => {
  for (const ip of ["0.0.0.0", "10.1.2.3", "198.18.0.1", "255.255.255.255"]) t.is(formatIpv4(parseIpv4(ip)!), ip);
  t.is(formatCidr(parseCidr("10.1.2.77/24", "x")), "10.1.2.0/24");
  t.is(gatewayOf(range), "10.1.2.1");
  t.true(contains(range, "10.1.2.7") && !contains(range, "10.1.2.8") && !contains(range, "nonsense"));
});

test("what is no range is refused with its field", (t) => {
  for (const text of ["", "10.1.2.0", "10.1.2/24", "10.1.2.256/24", "10.1.2.0/33", "10.1.2.0/x", "fd00::/64"]) {
    t.throws(() => parseCidr(text, "podCidr"), { code: "Invalid", message: new RegExp(`^podCidr: "${text}" is not`) });
  }
});

test("network, gateway and broadcast are never given away, and the range is used to its end", (t) => {
  const used = new Set<string>();
  let last: string | undefined;
  for (;;) {
    const ip = allocate(range, used, last);
    if (ip === undefined) break;
    used.add(ip);
    last = ip;
  }
  t.deepEqual([...used], ["10.1.2.2", "10.1.2.3", "10.1.2.4", "10.1.2.5", "10.1.2.6"]);
  t.is(used.size, capacityOf(range));
});

test("an address that was given back is the last to be used again", (t) => {
  const used = new Set(["10.1.2.3"]);
  t.is(allocate(range, used, "10.1.2.3"), "10.1.2.4", "not the lowest");
  t.is(allocate(range, used, "10.1.2.6"), "10.1.2.2", "round the range");
  t.is(allocate(range, new Set(["10.1.2.2", "10.1.2.4", "10.1.2.5", "10.1.2.6"]), "10.1.2.2"), "10.1.2.3");
});

test("a last address outside of the range, and ranges without room, do no harm", (t) => {
  t.is(allocate(range, new Set(), "192.0.2.1"), "10.1.2.2");
  t.is(allocate(range, new Set(), "0.0.0.1"), "10.1.2.2");
  for (const cidr of ["10.0.0.0/31", "10.0.0.0/32"]) t.is(allocate(parseCidr(cidr, "x"), new Set(), undefined), undefined);
  t.is(allocate(parseCidr("10.0.0.0/30", "x"), new Set(), undefined), "10.0.0.2");
});

test("10,000 random takings and givings never give one address to two", (t) => {
  let seed = 42;
  const random = (): number => (seed = (seed * 1_103_515_245 + 12_345) % 2_147_483_648) / 2_147_483_648;
  const wide = parseCidr("10.8.0.0/25", "x");
  const held: string[] = [];
  let last: string | undefined;
  for (let i = 0; i < 10_000; i++) {
    if (random() < 0.55) {
      const ip = allocate(wide, new Set(held), last);
      if (ip === undefined) t.is(held.length, capacityOf(wide));
      else if (held.includes(ip) || !contains(wide, ip)) t.fail(`${ip} was given twice or is outside`);
      else held.push(last = ip);
    } else if (held.length > 0) held.splice(Math.floor(random() * held.length), 1);
  }
  t.pass();
});
