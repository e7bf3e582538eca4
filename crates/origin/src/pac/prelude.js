// The functions that a proxy auto-configuration file may call. lookUp and myIpAddress come from the host.
"use strict";

function dnsResolve(host) {
  return lookUp(String(host)) ?? null;
}

function isPlainHostName(host) {
  return !String(host).includes(".");
}

function dnsDomainIs(host, domain) {
  return String(host).toLowerCase().endsWith(String(domain).toLowerCase());
}

function localHostOrDomainIs(host, full) {
  const [have, want] = [String(host).toLowerCase(), String(full).toLowerCase()];
  return have === want || (isPlainHostName(have) && want.startsWith(have + "."));
}

function isResolvable(host) {
  return dnsResolve(host) !== null;
}

function dnsDomainLevels(host) {
  return String(host).split(".").length - 1;
}

function convert_addr(address) {
  const parts = String(address).split(".").map(Number);
  const wrong = parts.length !== 4 || parts.some((part) => !(part >= 0 && part <= 255));
  return wrong ? 0 : parts.reduce((sum, part) => sum * 256 + part, 0);
}

function isInNet(host, pattern, mask) {
  const literal = /^\d{1,3}(\.\d{1,3}){3}$/.test(host);
  const address = literal ? host : dnsResolve(host);
  if (address === null) return false;
  const bits = convert_addr(mask);
  return ((convert_addr(address) & bits) >>> 0) === ((convert_addr(pattern) & bits) >>> 0);
}

// Shell patterns, matched without a regular expression: a hostile pattern must not take exponential time.
function shExpMatch(text, pattern) {
  [text, pattern] = [String(text), String(pattern)];
  let [t, p, star, mark] = [0, 0, -1, 0];
  while (t < text.length) {
    if (p < pattern.length && pattern[p] === "*") {
      [star, mark, p] = [p, t, p + 1];
    } else if (p < pattern.length && (pattern[p] === "?" || pattern[p] === text[t])) {
      [t, p] = [t + 1, p + 1];
    } else if (star >= 0) {
      [mark, p] = [mark + 1, star + 1];
      t = mark;
    } else {
      return false;
    }
  }
  while (pattern[p] === "*") p += 1;
  return p === pattern.length;
}

// What follows decides by the clock. A last argument "GMT" means that zone instead of the device's.
function splitZone(args) {
  const gmt = args[args.length - 1] === "GMT";
  return [gmt ? args.slice(0, -1) : args, gmt];
}

function within(now, from, to) {
  return from <= to ? from <= now && now <= to : from <= now || now <= to;
}

function weekdayRange(...all) {
  const [args, gmt] = splitZone(all);
  const days = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];
  const [from, to] = [days.indexOf(args[0]), days.indexOf(args[args.length - 1])];
  const now = new Date();
  return from >= 0 && to >= 0 && within(gmt ? now.getUTCDay() : now.getDay(), from, to);
}

function timeRange(...all) {
  const [args, gmt] = splitZone(all);
  const now = new Date();
  const [hour, minute, second] = gmt
    ? [now.getUTCHours(), now.getUTCMinutes(), now.getUTCSeconds()]
    : [now.getHours(), now.getMinutes(), now.getSeconds()];
  const clock = (parts) => ((parts[0] || 0) * 60 + (parts[1] || 0)) * 60 + (parts[2] || 0);
  if (args.length === 1) return hour === args[0];
  const half = args.length / 2;
  // Hours alone: the last one is not included; with minutes or seconds it is.
  const end = clock(args.slice(half)) - (half === 1 ? 1 : 0);
  return within(clock([hour, minute, second]), clock(args.slice(0, half)), end);
}

function dateRange(...all) {
  const [args, gmt] = splitZone(all);
  const months = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
  const now = new Date();
  const today = gmt
    ? { day: now.getUTCDate(), month: now.getUTCMonth(), year: now.getUTCFullYear() }
    : { day: now.getDate(), month: now.getMonth(), year: now.getFullYear() };
  const parse = (parts) => {
    const date = {};
    for (const part of parts) {
      if (typeof part === "string") date.month = months.indexOf(part);
      else if (part > 31) date.year = part;
      else date.day = part;
    }
    return date;
  };
  // Only what both ends name is compared, from the largest on.
  const place = (date, like) =>
    ["year", "month", "day"].filter((key) => key in like).reduce((sum, key) => sum * 400 + (date[key] || 0), 0);
  const half = args.length > 1 ? args.length / 2 : 1;
  const [from, to] = [parse(args.slice(0, half)), parse(args.slice(-half))];
  return within(place(today, from), place(from, from), place(to, from));
}

function alert() {}
