import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { test } from "node:test";
import { isNetwork } from "../../src/config/networks.ts";

test("isNetwork() accepts IPv4 and IPv6 networks and addresses [CFG-31]", () => {
  const networks = [
    "10.0.0.0/8",
    "0.0.0.0/0",
    "192.168.1.1/32",
    "192.168.1.1",
    "10.1.2.3/8",
    "::/0",
    "::1",
    "::1/128",
    "fc00::/7",
    "2001:db8::/32",
    "1:2:3:4:5:6:7:8",
    "1:2:3:4:5:6:7::",
    "::ffff:10.0.0.1/104",
    "64:ff9b::1.2.3.4",
    "1:2:3:4:5:6:1.2.3.4",
  ];
  for (const network of networks) assertEquals(isNetwork(network), true, network);
});

test("isNetwork() refuses what is no network [CFG-31]", () => {
  const others = [
    "",
    " 10.0.0.0/8",
    "10.0.0.0/8 ",
    "10.0.0.0/33",
    "10.0.0.0/",
    "10.0.0.0/-1",
    "10.0.0.0/08",
    "10.0.0.0/8/8",
    "10.0.0/8",
    "10.0.0.256",
    "10.0.0.01",
    "10.0.0.0.0",
    "localhost",
    "example.com/8",
    "::/129",
    ":::",
    "1::2::3",
    "1:2:3:4:5:6:7",
    "1:2:3:4:5:6:7:8:9",
    "1:2:3:4:5:6:7:8::",
    "12345::",
    "g::",
    "1.2.3.4::",
    "::1.2.3",
    "fe80::1%eth0",
    "*",
    "all",
  ];
  for (const other of others) assertEquals(isNetwork(other), false, other);
});

test("isNetwork() accepts every address that exists (property)", () => {
  fc.assert(fc.property(fc.ipV4(), fc.ipV6(), (v4, v6) => {
    assertEquals(isNetwork(v4), true, v4);
    assertEquals(isNetwork(`${v6}/64`), true, v6);
  }));
});
