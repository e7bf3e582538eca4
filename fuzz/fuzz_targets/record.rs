//! A content record: the envelope from anyone, and the payload as a signer might write it. What is accepted, signed
//! anew, comes through the envelope as it was.
#![no_main]

use libfuzzer_sys::fuzz_target;
use peerage_content::{ContentRecord, SecretKey, Signed, Statement, Validators};

fuzz_target!(|bytes: &[u8]| {
    let key = SecretKey::from_seed(&[7; 32]);
    assert!(Signed::<ContentRecord>::from_bytes(bytes, &[key.public()]).is_err(), "a forged signature");
    let Ok(record) = ContentRecord::decode(bytes) else { return };
    assert_eq!(record.layout().size(), record.size);
    let _ = record.check_time(record.not_before);
    let _ = record.check_fresh(Some(record.size), &Validators::default());
    let signed = Signed::new(record.clone(), &key);
    let read =
        Signed::<ContentRecord>::from_bytes(signed.as_bytes(), &[key.public()]).expect("our own signature");
    assert_eq!(read.get(), &record);
});
