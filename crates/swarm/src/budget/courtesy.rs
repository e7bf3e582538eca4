//! How much background downloads may take while a foreground download runs: what the foreground does not miss.
//!
//! Nobody knows what the foreground would get alone, so it is tried: the background's allowance grows while the
//! foreground keeps its pace, and is cut when the foreground falls behind it. It never falls below a share of what the
//! foreground gets: after it, but not starved.

use std::time::Duration;

use crate::Time;

/// Between two adjustments.
const STEP: Duration = Duration::from_millis(500);
/// The foreground falls behind when it gets less than this part of the best it has had of late.
const KEEPS: f64 = 0.9;
/// How fast the best fades, by step: a server that has become slower by itself is believed after some seconds.
const FADE: f64 = 0.98;
const GROW: f64 = 1.25;
const CUT: f64 = 0.5;
/// The least of the foreground's rate that the background may have.
const SHARE: f64 = 1.0 / 8.0;
/// The least in bytes a second.
const LEAST: f64 = 65_536.0;

/// The allowance of the background.
#[derive(Debug, Clone, Default)]
pub struct Courtesy {
    allowed: Option<f64>,
    best: f64,
    adjusted: Time,
}

impl Courtesy {
    /// What all background downloads together may take, in bytes a second; `None`: there is nobody to yield to.
    ///
    /// `foreground` is what all running foreground downloads get, `None` without any; `background` likewise what the
    /// background takes. `capped`: a cap of policy holds the foreground back, so it misses nothing.
    pub fn allowance(
        &mut self,
        foreground: Option<u64>,
        background: u64,
        capped: bool,
        now: Time,
    ) -> Option<u64> {
        let Some(foreground) = foreground.filter(|_| !capped) else {
            *self = Self::default();
            return None;
        };
        let foreground = foreground as f64;
        let least = (foreground * SHARE).max(LEAST);
        let allowed = self.allowed.unwrap_or(least);
        if self.allowed.is_none() || now.since(self.adjusted) >= STEP {
            self.best = (self.best * FADE).max(foreground);
            self.adjusted = now;
            let next = if foreground < self.best * KEEPS {
                allowed * CUT
            } else {
                // An allowance that is not used says nothing of the foreground, so it does not grow on.
                (allowed * GROW).min((background as f64 * 2.0).max(allowed))
            };
            self.allowed = Some(next.max(least));
        }
        self.allowed.map(|allowed| allowed as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: f64 = 1e6;

    /// A link of `link`, a foreground download that its server limits to `server`; what each has on average in a minute.
    fn minute(link: f64, server: f64) -> (f64, f64) {
        let mut courtesy = Courtesy::default();
        let (mut front, mut back) = (server.min(link), 0.0);
        let mut sums = (0.0, 0.0);
        for step in 0..120u64 {
            let now = Time::from_micros((step + 2) * 500_000);
            let allowed = courtesy.allowance(Some(front as u64), back as u64, false, now).unwrap();
            // Both flows press equally when the link is full.
            back = (allowed as f64).min((link - server.min(link / 2.0)).max(0.0));
            front = server.min(link - back);
            sums = (sums.0 + front, sums.1 + back);
        }
        (sums.0 / 120.0, sums.1 / 120.0)
    }

    #[test]
    fn takes_what_the_foreground_leaves() {
        let (front, back) = minute(100.0 * MB, 5.0 * MB);
        assert!(front >= 4.5 * MB, "{front}");
        assert!(back >= 60.0 * MB, "{back}");
    }

    #[test]
    fn yields_on_a_full_link_and_is_not_starved() {
        let (front, back) = minute(10.0 * MB, 100.0 * MB);
        assert!(front >= 7.5 * MB, "{front}");
        assert!(back >= MB * 0.9, "{back}");
    }

    #[test]
    fn nobody_to_yield_to() {
        let mut courtesy = Courtesy::default();
        let now = Time::from_micros(9_000_000);
        assert_eq!(courtesy.allowance(None, 5, false, now), None);
        assert_eq!(courtesy.allowance(Some(100), 5, true, now), None);
        // A download that has just begun and has nothing yet leaves the background its least.
        assert_eq!(courtesy.allowance(Some(0), 0, false, now), Some(65_536));
    }
}
