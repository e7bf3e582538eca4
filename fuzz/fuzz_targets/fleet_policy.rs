//! A fleet policy: the envelope from anyone, and the payload as a signer might write it. What is accepted, signed anew,
//! comes through the envelope as it was, and its settings are read or refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use peerage_content::{SecretKey, Signed, Statement};
use peerage_policy::fleet::{FleetPolicy, Selector};

fuzz_target!(|bytes: &[u8]| {
    let key = SecretKey::from_seed(&[7; 32]);
    assert!(Signed::<FleetPolicy>::from_bytes(bytes, &[key.public()]).is_err(), "a forged signature");
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(selector) = text.parse::<Selector>()
    {
        assert_eq!(selector.to_string().parse::<Selector>().as_ref(), Ok(&selector));
    }
    let Ok(policy) = FleetPolicy::decode(bytes) else { return };
    assert_eq!(policy.encode(), bytes, "one form");
    let _ = policy.layer();
    let signed = Signed::new(policy.clone(), &key);
    let read =
        Signed::<FleetPolicy>::from_bytes(signed.as_bytes(), &[key.public()]).expect("our own signature");
    assert_eq!(read.get(), &policy);
});
