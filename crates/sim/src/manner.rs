//! How devices behave that do not play by the rules.

/// Whether and how a device lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Runs the engine and does what it says.
    Honest,
    /// Runs the engine, has what it says, and sends wrong bytes.
    Corrupts,
    /// Runs the engine and stops sending after so many bytes, without a word.
    Stalls(u64),
    /// Claims to have everything, unchokes, and never answers a request.
    Mute,
    /// Claims to have everything and rejects every request.
    Lacks,
    /// Says over and over that it is fetching everything, and delivers nothing.
    Hoards,
    /// Asks for everything at once.
    Greedy,
    /// Claims to have everything, chokes and unchokes all the time, and delivers nothing.
    Flaps,
    /// Wants nothing and has nothing.
    Useless,
}

impl Manner {
    /// Whether it is a real device that should come to its end.
    pub(crate) const fn is_honest(self) -> bool {
        matches!(self, Self::Honest)
    }

    /// Whether it runs the engine.
    pub(crate) const fn runs_engine(self) -> bool {
        matches!(self, Self::Honest | Self::Corrupts | Self::Stalls(_))
    }

    /// Whether its hello claims everything.
    pub(crate) const fn claims_all(self) -> bool {
        matches!(self, Self::Mute | Self::Lacks | Self::Flaps)
    }
}
