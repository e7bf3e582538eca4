//! How requests leave the device, as far as it is known: for people who ask which proxy is used.

/// The ways out, without any password.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WayOut {
    /// What chooses the way.
    pub by: ChosenBy,
    /// Proxies that are known by name; a script may name others for each host.
    pub proxies: Vec<String>,
    /// Proxies that could not be connected to of late; they are tried last.
    pub failed: Vec<String>,
    /// Proxies that want a user name and a password, or others than they were given, since they last let a request through.
    pub refused: Vec<String>,
}

/// What chooses the way of a request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ChosenBy {
    /// Nothing: there is no proxy.
    #[default]
    Nothing,
    /// The variables `http_proxy` and so on.
    Environment,
    /// The configuration names one.
    Configuration,
    /// A script at a place that the configuration names.
    Script(ScriptState),
    /// A script that the network names (WPAD).
    Discovery(ScriptState),
}

/// What is known of a proxy auto-configuration script.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ScriptState {
    /// Where it was read; `None`: none is in use, and there is no proxy.
    pub from: Option<String>,
    /// What is wrong with it, or why there is none.
    pub trouble: Option<String>,
}
