//! What the system's D-Bus knows: UPower of battery and mains, NetworkManager of metered connections and VPNs.
//!
//! Both are asked only while they run; nothing here starts a service. Whatever they signal makes everything be read anew:
//! it is little, and so no signal can be misunderstood. Where there is no bus, or it goes away, nothing is known, and it is
//! looked for again now and then.

mod network_manager;
mod upower;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use peerage_policy::{Connection, Power};
use tokio::sync::{Notify, watch};
use zbus::message::Type;

use zbus::{Connection as Bus, DynamicType, MessageStream, OwnedVariant, connection};

/// How often an absent bus is looked for.
const RETRY: Duration = Duration::from_secs(5);
/// A service that does not answer for this long is taken for absent.
const PATIENCE: Duration = Duration::from_secs(5);
/// Signals that come close together are one change.
const GATHER: Duration = Duration::from_millis(50);

/// What the services of the bus say; `None`: nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct BusFacts {
    pub(crate) power: Option<Power>,
    pub(crate) metered: Option<bool>,
    pub(crate) connections: Vec<Connection>,
}

type Properties = HashMap<String, OwnedVariant>;

/// Keeps `facts` in step with the bus until nobody listens; `None`: it has not been asked yet.
pub(crate) async fn watch(facts: watch::Sender<Option<BusFacts>>) {
    let mut told = String::new();
    while !facts.is_closed() {
        if let Err(error) = follow(&facts).await {
            // An absent bus is nothing unusual: a server or a container has none. It is told once.
            let error = error.to_string();
            if error != told {
                tracing::debug!(
                    error,
                    "no system D-Bus: power is read from /sys, metered connections are not known"
                );
                told = error;
            }
        }
        tell(&facts, BusFacts::default());
        tokio::time::sleep(RETRY).await;
    }
}

/// Follows one connection to the bus to its end.
async fn follow(facts: &watch::Sender<Option<BusFacts>>) -> zbus::Result<()> {
    let bus = connection::Builder::system().method_timeout(PATIENCE).build().await?;
    let (changed, mut messages) = (Arc::new(Notify::new()), MessageStream::from(&bus));
    let heard = Arc::clone(&changed);
    // Answers and signals come by one queue: it is emptied whatever else is going on.
    let mut listener = tokio::spawn(async move {
        while let Some(Ok(message)) = messages.next().await {
            if message.message_type() == Type::Signal {
                heard.notify_one();
            }
        }
    });
    for rule in upower::SIGNALS.iter().chain(network_manager::SIGNALS) {
        call(&bus, "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "AddMatch", rule)
            .await?;
    }
    loop {
        let power = upower::power(&bus).await;
        let network = network_manager::read(&bus).await.unwrap_or_default();
        let new = BusFacts { power, metered: network.metered, connections: network.connections };
        tell(facts, new);
        tokio::select! {
            () = changed.notified() => tokio::time::sleep(GATHER).await,
            _ = &mut listener => return Ok(()),
            () = facts.closed() => {
                listener.abort();
                return Ok(());
            }
        }
    }
}

/// What is told again is no news.
fn tell(facts: &watch::Sender<Option<BusFacts>>, new: BusFacts) {
    facts.send_if_modified(|held| {
        let news = held.as_ref() != Some(&new);
        *held = Some(new);
        news
    });
}

async fn call<B: serde::Serialize + DynamicType>(
    bus: &Bus,
    service: &str,
    path: &str,
    interface: &str,
    method: &str,
    body: &B,
) -> zbus::Result<zbus::Message> {
    bus.call_method(Some(service), path, Some(interface), method, body).await
}

/// All properties of an interface of an object.
async fn properties(bus: &Bus, service: &str, path: &str, interface: &str) -> zbus::Result<Properties> {
    let answer = call(bus, service, path, "org.freedesktop.DBus.Properties", "GetAll", &interface).await?;
    answer.body().deserialize()
}

/// Whether a service runs. One that could be started by asking it is not started.
async fn runs(bus: &Bus, service: &str) -> bool {
    let bus_itself = "org.freedesktop.DBus";
    let answer = call(bus, bus_itself, "/org/freedesktop/DBus", bus_itself, "NameHasOwner", &service).await;
    answer.is_ok_and(|answer| answer.body().deserialize().unwrap_or(false))
}

/// A number of whatever type.
fn number(properties: &Properties, name: &str) -> Option<f64> {
    let whole = get::<u32>(properties, name).or_else(|| get::<u8>(properties, name).map(u32::from));
    let whole = whole.map(f64::from).or_else(|| get::<i32>(properties, name).map(f64::from));
    whole.or_else(|| get::<f64>(properties, name)).filter(|number| number.is_finite())
}

/// One property, if it is there and of that type.
fn get<T: TryFrom<OwnedVariant>>(properties: &Properties, name: &str) -> Option<T> {
    properties.get(name)?.try_clone().ok()?.try_into().ok()
}
