//! Tests of the room's answer part.

use std::time::{Duration, UNIX_EPOCH};

use proptest::prelude::*;

use super::*;

fn headers(list: &[(&str, &str)]) -> HeaderMap {
    let pair = |(name, value): &(&str, &str)| {
        (HeaderName::try_from(*name).unwrap(), HeaderValue::from_bytes(value.as_bytes()).unwrap())
    };
    // `extend` appends, so a name may stand twice.
    let mut map = HeaderMap::new();
    for (name, value) in list.iter().map(pair) {
        map.append(name, value);
    }
    map
}

fn get(
    status: u16,
    list: &[(&str, &str)],
    length: Option<u64>,
    asked: RangeRequest,
    known: &Known,
) -> Result<Answer, Failure> {
    let status = StatusCode::from_u16(status).unwrap();
    Answer::to_get(status, &headers(list), length, asked, known, UNIX_EPOCH)
}

const TEN_ON: RangeRequest = RangeRequest { from: 10, to: Some(20) };

fn partial(range: &str, length: Option<u64>) -> Result<Answer, Failure> {
    get(206, &[("content-range", range)], length, TEN_ON, &Known::default())
}

#[test]
fn partial_must_be_what_was_asked_for() {
    let answer = partial("bytes 10-19/100", Some(10)).unwrap();
    assert_eq!((answer.start, answer.end, answer.found.size), (10, Some(20), Some(100)));
    assert!(answer.supports_ranges);
    // Less than asked for is allowed (RFC 9110 §15.3.7), an unknown total too.
    let answer = partial("bytes 10-14/*", None).unwrap();
    assert_eq!((answer.start, answer.end, answer.found.size), (10, Some(15), None));

    assert!(matches!(partial("bytes 0-9/100", Some(10)), Err(Failure::WrongRange { start: 0, .. })));
    assert!(matches!(partial("bytes 11-19/100", Some(9)), Err(Failure::WrongRange { start: 11, .. })));
    assert!(matches!(partial("bytes 10-20/100", Some(11)), Err(Failure::WrongRange { end: 21, .. })));
    for (range, length) in [("bytes 10-19/100", 9), ("bytes 10-19/15", 10), ("bytes */100", 10), ("", 10)] {
        assert!(matches!(partial(range, Some(length)), Err(Failure::Header { .. })), "{range}");
    }
    let twice = [("content-range", "bytes 10-19/100"), ("content-range", "bytes 10-19/100")];
    for list in [&twice[..], &[]] {
        let answer = get(206, list, None, TEN_ON, &Known::default());
        assert!(matches!(answer, Err(Failure::Header { .. })));
    }
    let unasked = get(206, &twice[..1], None, RangeRequest::ALL, &Known::default());
    assert_eq!(unasked, Err(Failure::Status { status: 206 }));
}

#[test]
fn a_range_behind_the_known_size_is_wrong() {
    let known = Known { size: Some(15), ..Known::default() };
    let answer = get(206, &[("content-range", "bytes 10-19/*")], None, TEN_ON, &known);
    assert!(matches!(answer, Err(Failure::WrongRange { end: 20, .. })));
}

#[test]
fn whole_file_instead_of_a_range() {
    let list = [("etag", "\"a\""), ("accept-ranges", "bytes")];
    let answer = get(200, &list, Some(100), TEN_ON, &Known::default()).unwrap();
    assert_eq!((answer.start, answer.end, answer.supports_ranges), (0, Some(100), true));
    assert_eq!(answer.found.validators.etag, "\"a\"");
    let silent = get(200, &[("accept-ranges", "none")], None, TEN_ON, &Known::default()).unwrap();
    assert_eq!((silent.end, silent.found.size, silent.supports_ranges), (None, None, false));
    let known = Known { size: Some(100), ..Known::default() };
    assert_eq!(get(200, &[], None, TEN_ON, &known).unwrap().end, Some(100));
}

#[test]
fn another_file_than_known_is_a_change() {
    let validators = Validators { etag: "\"a\"".into(), last_modified: String::new() };
    let known = Known { size: Some(100), validators };
    for (status, list) in [
        (206, &[("content-range", "bytes 10-19/101")][..]),
        (206, &[("content-range", "bytes 10-19/100"), ("etag", "\"b\"")]),
        (200, &[("etag", "\"b\"")]),
        (416, &[("content-range", "bytes */5")]),
        (416, &[("etag", "\"b\"")]),
    ] {
        let answer = get(status, list, None, TEN_ON, &known);
        assert!(matches!(answer, Err(Failure::Changed { .. })), "{status} {answer:?}");
    }
    let same = [("content-range", "bytes 10-19/100"), ("etag", "W/\"a\"")];
    assert!(get(206, &same, None, TEN_ON, &known).is_ok());
}

#[test]
fn encoded_and_multipart_bodies_are_refused() {
    for status in [200, 206] {
        for encoding in ["gzip", "br", "identity, gzip"] {
            let list = [("content-encoding", encoding), ("content-range", "bytes 10-19/100")];
            let answer = get(status, &list, None, TEN_ON, &Known::default());
            assert!(matches!(answer, Err(Failure::Header { ref name, .. }) if name == "content-encoding"));
        }
    }
    assert!(get(200, &[("content-encoding", "Identity")], None, TEN_ON, &Known::default()).is_ok());
    let parts = [("content-type", "Multipart/ByteRanges; boundary=x"), ("content-range", "bytes 10-19/100")];
    let answer = get(206, &parts, None, TEN_ON, &Known::default());
    assert!(matches!(answer, Err(Failure::Header { ref name, .. }) if name == "content-type"));
}

#[test]
fn statuses_mean_what_to_do() {
    let answer =
        |status, list: &[(&str, &str)]| get(status, list, None, TEN_ON, &Known::default()).unwrap_err();
    for status in [404, 410] {
        assert_eq!(answer(status, &[]), Failure::Gone { status });
    }
    for status in [401, 403, 451] {
        assert_eq!(answer(status, &[]), Failure::Denied { status });
    }
    assert_eq!(answer(407, &[]), Failure::ProxyLogin { proxy: None });
    for status in [408, 429, 500, 502, 503, 504, 522] {
        assert_eq!(answer(status, &[]), Failure::Busy { status, retry_after: None });
    }
    for status in [204, 205, 207, 300, 304, 400, 418, 501, 505] {
        assert_eq!(answer(status, &[]), Failure::Status { status });
    }
    let wait = |seconds| Failure::Busy { status: 503, retry_after: Some(Duration::from_secs(seconds)) };
    assert_eq!(answer(503, &[("retry-after", "7")]), wait(7));
    assert_eq!(answer(503, &[("retry-after", "Thu, 01 Jan 1970 00:02:00 GMT")]), wait(120));
    let behind = answer(416, &[("content-range", "bytes */5")]);
    assert_eq!(behind, Failure::OutOfRange { from: 10, size: Some(5) });
}

#[test]
fn oversized_validators_are_left_out() {
    let long = format!("\"{}\"", "x".repeat(MAX_VALIDATOR));
    let answer = get(200, &[("etag", &long)], Some(1), TEN_ON, &Known::default()).unwrap();
    assert_eq!(answer.found.validators, Validators::default());
}

proptest! {
    // Whatever is announced: an accepted answer never places bytes outside of what was asked for.
    #[test]
    fn accepted_ranges_lie_inside(
        status in prop::sample::select(vec![200_u16, 206, 416]),
        range in "(bytes )?[0-9]{1,3}-[0-9]{1,3}/([0-9]{1,3}|\\*)|\\PC{0,20}",
        length in prop::option::of(0..200_u64),
        from in 0..100_u64,
        to in prop::option::of(100..200_u64),
        size in prop::option::of(0..300_u64),
    ) {
        let asked = RangeRequest { from, to };
        let known = Known { size, ..Known::default() };
        let Ok(value) = HeaderValue::from_bytes(range.as_bytes()) else { return Ok(()) };
        let mut map = HeaderMap::new();
        map.insert(CONTENT_RANGE, value);
        let status = StatusCode::from_u16(status).unwrap();
        if let Ok(answer) = Answer::to_get(status, &map, length, asked, &known, UNIX_EPOCH) {
            if status == StatusCode::OK {
                prop_assert_eq!(answer.start, 0);
            } else {
                let end = answer.end.unwrap();
                prop_assert_eq!(answer.start, from);
                prop_assert!(end > from && to.is_none_or(|to| end <= to));
                prop_assert!(size.is_none_or(|size| end <= size));
                prop_assert!(length.is_none_or(|length| length == end - from));
            }
        }
    }
}
