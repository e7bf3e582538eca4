//! What scripts may answer and do, and what not.

use proptest::prelude::*;

use super::*;

fn ask(script: &str, host: &str) -> Result<Vec<Hop>, PacError> {
    let resolve = |name: &str| (name == "intra.example").then_some(IpAddr::V4(Ipv4Addr::new(10, 1, 2, 3)));
    find(script, &format!("http://{host}/"), host, resolve)
}

fn says(condition: &str, host: &str) -> bool {
    let script =
        format!("function FindProxyForURL(url, host) {{ return ({condition}) ? 'PROXY p:1' : 'DIRECT' }}");
    ask(&script, host).unwrap() != [Hop::Direct]
}

#[test]
fn ways_in_the_order_of_the_answer() {
    let script = "function FindProxyForURL(url, host) {
        if (shExpMatch(host, '*.corp.example')) return 'PROXY a.example:3128; HTTPS b.example; SOCKS c; SOCKS5 d:443; SOCKS4 e:1; DIRECT';
        return 'DIRECT';
    }";
    let proxy = |url: &str| Hop::Proxy(url.to_owned());
    let expected = [
        proxy("http://a.example:3128"),
        proxy("https://b.example:443"),
        proxy("socks5h://c:1080"),
        proxy("socks5h://d:443"),
        Hop::Direct,
    ];
    assert_eq!(ask(script, "x.corp.example").unwrap(), expected);
    assert_eq!(ask(script, "example.org").unwrap(), [Hop::Direct]);
}

#[test]
fn the_functions_that_scripts_call() {
    let yes = [
        ("isPlainHostName(host)", "www"),
        ("dnsDomainIs(host, '.example.org')", "www.example.org"),
        ("localHostOrDomainIs(host, 'www.example.org')", "www"),
        ("isResolvable(host)", "intra.example"),
        ("dnsDomainLevels(host) == 2", "a.b.c"),
        ("isInNet(host, '10.1.0.0', '255.255.0.0')", "10.1.99.99"),
        ("isInNet(host, '10.1.0.0', '255.255.0.0')", "intra.example"),
        ("shExpMatch(url, 'http:*/??')", "host/ab"),
        ("convert_addr('255.0.0.1') === 4278190081", "x"),
        ("isInNet(myIpAddress(), '0.0.0.0', '0.0.0.0')", "x"),
        (
            "weekdayRange('MON', 'SUN', 'GMT') && timeRange(0, 24) && timeRange(0, 0, 0, 23, 59, 59, 'GMT')",
            "x",
        ),
        ("dateRange(1, 31) && dateRange('JAN', 'DEC') && dateRange(2000, 3000, 'GMT')", "x"),
        ("dateRange(1, 'JAN', 2000, 31, 'DEC', 2999)", "x"),
        // A function that reads as if this were an old browser.
        ("(function () { undeclared = 1; return undeclared; })() == 1", "x"),
    ];
    for (condition, host) in yes {
        let host = host.split('/').next().unwrap_or(host);
        let condition = condition.replace("url", "'http://host/ab'");
        assert!(says(&condition, host), "{condition} for {host}");
    }
    let no = [
        ("isPlainHostName(host)", "www.example.org"),
        ("dnsDomainIs(host, '.example.org')", "www.example.com"),
        ("localHostOrDomainIs(host, 'www.example.org')", "w"),
        ("isResolvable(host)", "nowhere.example"),
        ("isInNet(host, '10.1.0.0', '255.255.0.0')", "10.2.0.1"),
        ("isInNet(host, '10.1.0.0', '255.255.0.0')", "nowhere.example"),
        ("shExpMatch(host, 'a*b')", "abc"),
        ("dateRange(1999)", "x"),
    ];
    for (condition, host) in no {
        assert!(!says(condition, host), "{condition} for {host}");
    }
}

#[test]
fn a_script_gets_neither_time_nor_memory_nor_names_without_end() {
    let fails = |body: &str| {
        let script = format!("function FindProxyForURL(url, host) {{ {body} }}");
        matches!(ask(&script, "h"), Err(PacError::Script(_)))
    };
    assert!(fails("for (;;) {}"));
    assert!(fails("const all = []; for (;;) all.push(new Array(100000).fill(1));"));
    assert!(fails("function deep() { return deep() + 1 } return deep();"));
    assert!(fails("return shExpMatch('a'.repeat(100000), '*a'.repeat(50000) + 'b') ? 1 : undefined"));
    assert!(fails("return require('fs').readFileSync('/etc/passwd')"));
    assert!(fails("throw new Error('x'.repeat(5000))"));
    // Names are looked up so often; then none has an address.
    assert!(says(
        "!Array(8).fill().every(() => isResolvable('intra.example')) || !isResolvable('intra.example')",
        "h"
    ));
    assert!(matches!(ask("not a script", "h"), Err(PacError::Script(_))));
    assert!(matches!(ask("", "h"), Err(PacError::Script(_))));
    assert!(matches!(ask(&" ".repeat(MAX_SCRIPT + 1), "h"), Err(PacError::TooLong { .. })));
}

#[test]
fn answers_that_lead_nowhere() {
    for text in [
        "",
        ";;",
        "SOCKS4 a:1",
        "SOCKS",
        "PROXY",
        "PROXY a:1 b",
        "DIRECT now",
        "PROXY u:p@a:1",
        "PROXY a/b",
        "PROXY a:99999",
    ] {
        assert!(hops(text).is_err(), "{text}");
    }
    let many = "PROXY a:1;".repeat(100);
    assert_eq!(hops(&many).unwrap().len(), MAX_HOPS);
    let proxy = |url: &str| Ok(vec![Hop::Proxy(url.to_owned())]);
    assert_eq!(hops("proxy [::1]:8080"), proxy("http://[::1]:8080"));
}

proptest! {
    #[test]
    fn any_answer_is_read_or_refused(text in "\\PC{0,200}") {
        let _ = hops(&text);
    }

    #[test]
    fn near_answers_lead_to_proxies(text in "(PROXY|HTTPS|DIRECT|SOCKS5?) ?[a-z0-9.:@/\\[\\]-]{0,20}; ?(DIRECT)?") {
        for hop in hops(&text).unwrap_or_default() {
            if let Hop::Proxy(url) = hop {
                let url = url::Url::parse(&url).unwrap();
                prop_assert!(url.has_host() && url.username().is_empty());
            }
        }
    }

    #[test]
    fn any_script_ends(text in "\\PC{0,60}") {
        let _ = ask(&text, "h");
    }
}
