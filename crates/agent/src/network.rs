//! When the network becomes another one: what has failed before may work now, and what worked may lead nowhere.

use std::sync::Arc;

use crate::shared::Shared;

/// Follows the network until the agent ends. Contents and downloads see the change for themselves.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut policy = shared.policy.clone();
    let mut seen = policy.borrow().network;
    while policy.changed().await.is_ok() {
        let now = policy.borrow_and_update().network;
        if now == seen {
            continue;
        }
        seen = now;
        tracing::info!("the network is another one: connections begin anew, addresses are announced");
        shared.origin.reconnect();
        shared.background_origin.reconnect();
        shared.caches.begin_anew();
        tokio::task::block_in_place(|| shared.coordinator.reconnect());
        shared.announcer.announce_all();
    }
}
