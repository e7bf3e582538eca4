//! What a DHCP server answers, and what clients keep of it in lease files: never a panic, and no more than an option holds.
#![no_main]

use libfuzzer_sys::fuzz_target;
use peerage_host::{Offered, parse_dhclient, parse_networkd, parse_reply, wpad_url_in};

fn is_small(offered: Offered) {
    for value in [offered.group, offered.cache_hosts, offered.script].into_iter().flatten() {
        assert!(value.len() <= 255);
    }
}

fuzz_target!(|bytes: &[u8]| {
    let xid = bytes.get(4..8).and_then(|raw| raw.try_into().ok()).map_or(0, u32::from_be_bytes);
    parse_reply(bytes, xid).map(is_small);
    if let Ok(text) = std::str::from_utf8(bytes) {
        is_small(parse_networkd(text));
        is_small(parse_dhclient(text, 1_800_000_000));
        if let Ok(url) = wpad_url_in(text) {
            assert!(url.len() <= 255 + 20 && url.is_ascii());
        }
    }
});
