//! A site's side of an origin that is simulated apart from it (see `shared`): what it says to it, and what the origin may
//! look at, as it was at an earlier moment.

use std::collections::VecDeque;
use std::time::Duration;

use peerage_swarm::Time;

use crate::link::Link;
use crate::run::END;
use crate::server::Word;

/// An origin somewhere else. The site is ahead of it in time, never behind.
#[derive(Debug)]
pub(crate) struct Outside {
    /// What was said since it was last listened to, and when it gets there.
    pub(crate) said: Vec<(Time, Word)>,
    /// Links into the devices as they were from a moment on, in order; what lies before what the origin has seen is dropped.
    links: Vec<VecDeque<(Time, Link)>>,
    /// How far the origin is …
    seen: Time,
    /// … and the site: all that comes before has happened.
    pub(crate) reached: Time,
    latency: Duration,
    /// Nothing is on its way from the origin but the answer to what is asked from now on; that comes then at the earliest.
    answer: Option<Time>,
}

impl Outside {
    /// `links` are those of the devices, `latency` the time of one way.
    pub(crate) fn new(links: impl Iterator<Item = Link>, latency: Duration) -> Self {
        let links = links.map(|link| VecDeque::from([(Time::ZERO, link)])).collect();
        Self { said: Vec::new(), links, seen: Time::ZERO, reached: Time::ZERO, latency, answer: None }
    }

    /// The site goes on, the origin being at `seen`; `quiet`: it owes the site nothing.
    pub(crate) const fn go_on(&mut self, seen: Time, quiet: bool) {
        self.seen = seen;
        self.answer = if quiet { Some(END) } else { None };
    }

    /// How far the site may go if it was to go until `until`.
    pub(crate) fn until(&self, until: Time) -> Time {
        self.answer.map_or(until, |answer| answer.min(until))
    }

    /// Something is said that gets there at `there`.
    pub(crate) fn say(&mut self, there: Time, word: Word) {
        self.said.push((there, word));
        if let (Word::Ask { .. }, Some(answer)) = (word, &mut self.answer) {
            *answer = (*answer).min(there + self.latency);
        }
    }

    /// The link into device `at` is like this from `now` on.
    pub(crate) fn show(&mut self, at: usize, now: Time, link: Link) {
        let past = &mut self.links[at];
        while past.get(1).is_some_and(|(since, _)| *since < self.seen) {
            past.pop_front();
        }
        past.push_back((now, link));
    }

    /// What it was before anything happened at `now`.
    pub(crate) fn link(&self, at: usize, now: Time) -> Option<Link> {
        let past = &self.links[at];
        let found = past.iter().rev().find(|(since, _)| *since < now).or(past.front());
        found.map(|(_, link)| *link)
    }
}
