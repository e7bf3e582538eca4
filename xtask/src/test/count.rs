//! Counts tests from what the runners report: nextest's JUnit file, rustdoc's closing lines.

use std::fmt;
use std::iter::Sum;

use anyhow::{Context as _, Result};

/// How many tests passed and failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Count {
    pub(super) passed: u64,
    pub(super) failed: u64,
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

impl Sum for Count {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Self::default(), |sum, count| Self {
            passed: sum.passed + count.passed,
            failed: sum.failed + count.failed,
        })
    }
}

impl Count {
    /// Reads the totals of a JUnit report from the attributes of its root element.
    ///
    /// # Errors
    /// It is none.
    pub(super) fn from_junit(report: &str) -> Result<Self> {
        let root = report.split_once("<testsuites ").and_then(|(_, rest)| rest.split_once('>'));
        let root = root.context("no <testsuites> in the JUnit report")?.0;
        let attribute = |name: &str| -> Result<u64> {
            let value = root.split_once(&format!("{name}=\"")).and_then(|(_, rest)| rest.split_once('"'));
            let value = value.and_then(|(value, _)| value.parse().ok());
            value.with_context(|| format!("no number {name} in the JUnit report"))
        };
        let failed = attribute("failures")? + attribute("errors")?;
        Ok(Self { passed: attribute("tests")?.saturating_sub(failed), failed })
    }

    /// Adds up the lines `test result: ok. 3 passed; 1 failed; …` of rustdoc and libtest.
    pub(super) fn from_libtest(output: &str) -> Self {
        let results = output.lines().filter_map(|line| line.strip_prefix("test result: "));
        let number = |result: &str, word: &str| -> u64 {
            let part =
                result.split([';', '.']).find_map(|part| part.trim().strip_suffix(word)?.trim().parse().ok());
            part.unwrap_or(0)
        };
        results
            .map(|result| Self { passed: number(result, "passed"), failed: number(result, "failed") })
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn junit() {
        let report = r#"<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="nextest-run" tests="22" failures="2" errors="1" uuid="x" time="3.5">
    <testsuite name="a" tests="1" failures="1" errors="0">"#;
        assert_eq!(Count::from_junit(report).unwrap(), Count { passed: 19, failed: 3 });
        assert!(Count::from_junit("").is_err());
        assert!(Count::from_junit(r#"<testsuites name="x" tests="many">"#).is_err());
    }

    #[test]
    fn libtest() {
        let output = "running 2 tests\n\
            test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s\n\
            test result: FAILED. 3 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s\n";
        assert_eq!(Count::from_libtest(output), Count { passed: 5, failed: 1 });
        assert_eq!(Count::from_libtest("error: no library targets"), Count::default());
    }

    #[test]
    fn sums_and_prints() {
        let sum: Count = [Count { passed: 1, failed: 2 }, Count { passed: 3, failed: 0 }].into_iter().sum();
        assert_eq!(sum.to_string(), "4 passed, 2 failed");
    }
}
