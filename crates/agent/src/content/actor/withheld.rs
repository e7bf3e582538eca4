//! Why peers are not served here, told to them; and why they do not serve this device, told by them (wire, "Course of a
//! connection").
//!
//! Nothing follows from it for who is asked for what: it is for `peerage why` and `status`. What is told is a short list: a
//! peer of the same swarm learns the kind of reason, and nothing of settings, charge or addresses.

use std::sync::Arc;

use peerage_content::{PeerId, Scope};
use peerage_policy::{Code, Decision};
use peerage_swarm::{SourceId, SourceKind};
use peerage_wire::{Message, Withheld};

use super::Actor;
use super::conditions::Place;
use crate::content::connection::Control;

/// What peers are told of the reasons of a decision: of several the one that a person would name.
pub(super) fn reason_of(decision: &Decision) -> Withheld {
    let told = decision.reasons.iter().filter_map(|reason| match reason.code {
        Code::OnBattery { .. } => Some(Withheld::Battery),
        Code::PeersMetered => Some(Withheld::Metered),
        Code::OnVpn { .. } => Some(Withheld::Vpn),
        Code::MonthSpent { .. } => Some(Withheld::MonthlyCap),
        _ => None,
    });
    told.min().unwrap_or(Withheld::Policy)
}

/// A peer's reason in words that go on from "does not share now: ".
pub(super) fn sentence(reason: Withheld) -> &'static str {
    match reason {
        Withheld::Nothing => "it shares again",
        Withheld::Battery => "it runs on battery (min_battery_percentage_allowed_to_upload there)",
        Withheld::Metered => "its connection is metered (allow_metered_peer_caching there)",
        Withheld::Vpn => "it is on a VPN (allow_vpn_peer_caching there)",
        Withheld::MonthlyCap => "it has uploaded what it may this month (monthly_upload_data_cap there)",
        Withheld::Slots => "it serves as many other files as it may (upload_slots there)",
        Withheld::Policy => "its policy does not let it share this file now",
        Withheld::Other => "for a reason that this version does not know",
    }
}

impl Actor {
    /// Why a peer of this kind is not served now.
    fn withholds(&self, kind: SourceKind) -> Withheld {
        let serves = match kind {
            SourceKind::LinkLocal => self.allowed.link_local.serve,
            SourceKind::Group => self.allowed.serve.contains(Scope::Group),
            SourceKind::Internet => self.allowed.serve.contains(Scope::Internet),
            _ => self.allowed.serve.contains(Scope::Lan),
        };
        match (serves, self.place) {
            (false, _) => self.own_reason,
            (true, Place::Waits) => Withheld::Slots,
            (true, _) => Withheld::Nothing,
        }
    }

    /// Tells every connected peer what has changed of why it is not served.
    pub(super) fn tell_reasons(&mut self) {
        for source in self.links.keys().copied().collect::<Vec<_>>() {
            self.tell_reason(source);
        }
    }

    /// The same for one peer.
    pub(super) fn tell_reason(&mut self, source: SourceId) {
        let Some(kind) = self.links.get(&source).map(|link| link.kind) else { return };
        let reason = self.withholds(kind);
        let Some(link) = self.links.get_mut(&source).filter(|link| link.withheld != reason) else { return };
        link.withheld = reason;
        let _ = link.control.send(Control::Send(Message::Withheld(reason)));
    }

    /// A peer says why it does not serve this device.
    pub(super) fn withheld(&mut self, source: SourceId, peer: PeerId, reason: Withheld) {
        let Some(link) = self.links.get(&source) else { return };
        let name = format!("{} ({})", link.address.ip().to_canonical(), peer.short());
        if reason == Withheld::Nothing {
            self.withholders.remove(&source);
        } else {
            self.withholders.insert(source, reason);
        }
        if !self.transfer.is_complete() {
            let why = (reason != Withheld::Nothing).then(|| sentence(reason).to_owned());
            Arc::make_mut(&mut self.account).withheld(name, why);
        }
    }
}
