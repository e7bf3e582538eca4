//! The peer port: open while policy lets this device share, closed otherwise (product §4).

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use peerage_transport::{Listener, TransportError, accept};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::admission;
use crate::content::Command;
use crate::shared::Shared;

/// Handshakes under way at once; more callers wait in the kernel's queue.
const MAX_HANDSHAKES: usize = 64;
/// Handshakes under way at once from one address: one neighbour cannot take all places.
const MAX_FROM_ONE: usize = 16;
const RETRY: Duration = Duration::from_secs(5);

/// Opens and closes the port as policy changes. Returns when the agent ends.
pub(crate) async fn run(shared: Arc<Shared>, first: Option<Listener>) {
    let mut policy = shared.policy.clone();
    let mut trouble = Trouble::default();
    let mut listener = first;
    let mut address = shared.config.listen;
    let handshakes = Arc::new(Semaphore::new(MAX_HANDSHAKES));
    let from = Arc::new(parking_lot::Mutex::new(std::collections::HashMap::<IpAddr, usize>::new()));
    loop {
        let open = may_listen(&shared);
        if !open && listener.take().is_some() {
            tracing::info!("policy does not let this device share: the peer port is closed");
            shared.listening.send_replace(None);
        }
        if open && listener.is_none() {
            listener = trouble.told(bind(&shared, address), address);
        }
        *shared.port_trouble.lock() = trouble.0.clone().filter(|_| open);
        if let Some(local) = listener.as_ref().and_then(|listener| listener.local_addr().ok()) {
            // A port that was chosen for us is taken again when sharing resumes.
            address = local;
        }
        tokio::select! {
            changed = policy.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(RETRY), if open && listener.is_none() => {}
            // A free place first: while strangers hold all of them the rest of this loop must go on.
            (place, next) = next(&handshakes, listener.as_ref()) => {
                match next {
                    Ok((stream, remote)) => {
                        let (shared, from) = (Arc::clone(&shared), Arc::clone(&from));
                        if !enter(&from, remote.ip()) {
                            continue;
                        }
                        tokio::spawn(async move {
                            welcome(&shared, stream, remote).await;
                            leave(&from, remote.ip());
                            drop(place);
                        });
                    }
                    Err(error) => {
                        tracing::warn!(%error, "accepting a peer failed");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                }
            }
        }
    }
}

/// The next connection and its place among the handshakes. Cancel-safe.
async fn next(
    handshakes: &Arc<Semaphore>,
    listener: Option<&Listener>,
) -> (Option<OwnedSemaphorePermit>, Result<(TcpStream, SocketAddr), TransportError>) {
    let Some(listener) = listener else { return std::future::pending().await };
    // Nobody closes the semaphore.
    let place = Arc::clone(handshakes).acquire_owned().await.ok();
    (place, listener.next().await)
}

/// What the log has been told of a port that cannot be opened: each reason once.
#[derive(Debug, Default)]
struct Trouble(Option<String>);

impl Trouble {
    fn told(&mut self, bound: Result<Listener, TransportError>, address: SocketAddr) -> Option<Listener> {
        match bound {
            Ok(listener) => {
                if self.0.take().is_some() {
                    tracing::info!(%address, "the peer port is open");
                }
                Some(listener)
            }
            Err(error) => {
                let error = crate::file_status::chain(&error);
                if self.0.as_ref() != Some(&error) {
                    tracing::error!(%error, %address, "the peer port cannot be opened; downloads work, sharing does not");
                }
                self.0 = Some(error);
                None
            }
        }
    }
}

/// Whether policy lets the port be open.
pub(crate) fn may_listen(shared: &Shared) -> bool {
    shared.decide_device().allowed.serve_any()
}

/// Opens the port.
///
/// # Errors
/// It cannot be opened.
pub(crate) fn bind(shared: &Shared, address: SocketAddr) -> Result<Listener, TransportError> {
    let bound = Listener::bind(address);
    let local = bound.as_ref().ok().and_then(|listener| listener.local_addr().ok());
    shared.listening.send_replace(local);
    bound
}

type From = parking_lot::Mutex<std::collections::HashMap<IpAddr, usize>>;

fn enter(from: &From, ip: IpAddr) -> bool {
    let mut from = from.lock();
    let count = from.entry(ip).or_default();
    *count += 1;
    if *count > MAX_FROM_ONE {
        *count -= 1;
        return false;
    }
    true
}

fn leave(from: &From, ip: IpAddr) {
    let mut from = from.lock();
    if let Some(count) = from.get_mut(&ip) {
        *count -= 1;
        if *count == 0 {
            from.remove(&ip);
        }
    }
}

async fn welcome(shared: &Arc<Shared>, stream: TcpStream, remote: SocketAddr) {
    if !shared.admits(remote.ip()) {
        tracing::debug!(%remote, "policy does not admit peers of this address");
        return;
    }
    let options = shared.connect_options();
    let connection = match accept(stream, &shared.identity, &options).await {
        Ok(connection) => connection,
        Err(error) => {
            tracing::debug!(%remote, %error, "not a peer");
            return;
        }
    };
    match admission::receive(shared, connection).await {
        Ok((handle, admitted)) => {
            handle.tell(Command::Connected(Box::new(admitted))).await;
        }
        Err(refused) => tracing::debug!(%remote, %refused, "peer refused"),
    }
}
