//! How connections are made: straight or through a proxy, over TLS or not, each socket shown to the [`Intake`].

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::Uri;
use http::uri::Scheme;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio_rustls::TlsConnector;
use tower::{Service, ServiceExt as _};

use crate::line::{Line, Socket};
use crate::proxy::Route;
use crate::resolve::Names;
use crate::{Intake, OriginConfig, socks};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A proxy answers a CONNECT with 407.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the proxy answers 407")]
pub(crate) struct WantsLogin;

/// How the error of a tunnel ends then.
const LOGIN_WANTED: &str = "proxy authorization required";
/// A peer that has silently gone is noticed by the kernel after some of these.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// Opens connections for the HTTP client. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Connector {
    hop: Hop,
    /// Offers HTTP/2.
    tls: TlsConnector,
    route: Route,
    /// For names that a SOCKS proxy is not to resolve.
    names: Names,
    patience: Duration,
}

/// A connection to a host itself, in clear text or, to a proxy with an `https` URL, over TLS.
#[derive(Clone)]
struct Hop {
    http: HttpConnector<Names>,
    /// Offers HTTP/1.1 alone: what a CONNECT is spoken over.
    tls: TlsConnector,
    intake: Option<Arc<dyn Intake>>,
}

impl Connector {
    pub(crate) fn new(config: &OriginConfig, tls: &rustls::ClientConfig, route: Route, names: Names) -> Self {
        let mut http = HttpConnector::new_with_resolver(names.clone());
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_keepalive(Some(KEEPALIVE));
        http.set_connect_timeout(Some(config.connect_timeout));
        let mut plain = tls.clone();
        plain.alpn_protocols.clear();
        let hop = Hop { http, tls: TlsConnector::from(Arc::new(plain)), intake: config.intake.clone() };
        let tls = TlsConnector::from(Arc::new(tls.clone()));
        Self { hop, tls, route, names, patience: config.connect_timeout }
    }

    async fn connect(self, to: Uri) -> Result<TokioIo<Line>, BoxError> {
        let https = to.scheme() == Some(&Scheme::HTTPS);
        let line = match &self.route {
            Route::Proxy(proxy) if proxy.is_socks() => {
                let line = self.hop.clear(proxy.uri.clone()).await?;
                TokioIo::new(socks::through(line, proxy, &to, self.names).await?)
            }
            Route::Proxy(proxy) if !proxy.is_http() => {
                let scheme = proxy.uri.scheme_str().unwrap_or_default();
                let what = format!("a {scheme} proxy; supported are http, https, socks5 and socks5h");
                return Err(io::Error::new(io::ErrorKind::Unsupported, what).into());
            }
            Route::Proxy(proxy) if https => {
                let hop = tower::service_fn(move |to| self.hop.clone().connect(to));
                let mut tunnel = Tunnel::new(proxy.uri.clone(), hop);
                if let Some(authorization) = proxy.header() {
                    tunnel = tunnel.with_auth(authorization);
                }
                match tunnel.oneshot(to.clone()).await {
                    Ok(line) => line,
                    // The library tells it by this text alone.
                    Err(error) if error.to_string().ends_with(LOGIN_WANTED) => return Err(WantsLogin.into()),
                    Err(error) => return Err(error.into()),
                }
            }
            Route::Proxy(proxy) => {
                let line = self.hop.connect(proxy.uri.clone()).await?.into_inner();
                return Ok(TokioIo::new(line.for_proxy()));
            }
            Route::Direct => TokioIo::new(self.hop.clear(to.clone()).await?),
        };
        if !https {
            return Ok(line);
        }
        Ok(TokioIo::new(over_tls(&self.tls, &to, line.into_inner()).await?))
    }
}

impl Hop {
    async fn clear(self, to: Uri) -> Result<Line, BoxError> {
        let stream = self.http.oneshot(to).await?.into_inner();
        Ok(Line::clear(Socket::new(stream, self.intake.as_deref())))
    }

    /// Connects as the URL's scheme says.
    async fn connect(self, to: Uri) -> Result<TokioIo<Line>, BoxError> {
        let (tls, https) = (self.tls.clone(), to.scheme() == Some(&Scheme::HTTPS));
        let line = self.clear(to.clone()).await?;
        Ok(TokioIo::new(if https { over_tls(&tls, &to, line).await? } else { line }))
    }
}

async fn over_tls(tls: &TlsConnector, to: &Uri, line: Line) -> Result<Line, BoxError> {
    let host = to.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let name = ServerName::try_from(host.strip_suffix('.').unwrap_or(host).to_owned())?;
    Ok(Line::tls(tls.connect(name, line).await?))
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Line>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let (connector, patience) = (self.clone(), self.patience);
        Box::pin(async move {
            let connect = tokio::time::timeout(patience, connector.connect(to));
            connect.await.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()))
        })
    }
}
