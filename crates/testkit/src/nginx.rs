//! A real nginx: the HTTP origin (or cache) of a test, and the witness of what was asked of it.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::wait::poll;
use crate::{Host, Identity, Process};

const START_LIMIT: Duration = Duration::from_secs(30);
/// Between choosing a free port and nginx binding it, another process may take it.
const PORT_TRIES: u32 = 5;

/// How an nginx shall be. Made by [`Nginx::serve`].
#[derive(Debug, Clone)]
pub struct NginxBuilder {
    root: PathBuf,
    host: Option<Host>,
    port: u16,
    identity: Option<Identity>,
    directives: String,
    http_directives: String,
}

/// A running nginx.
#[derive(Debug)]
pub struct Nginx {
    process: Process,
    address: SocketAddr,
    scheme: &'static str,
    access_log: PathBuf,
}

/// One request that nginx has answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    /// The client's address.
    pub client: IpAddr,
    /// `GET`, `HEAD` …
    pub method: String,
    /// The path, without the query.
    pub path: String,
    /// The `Range` header, empty without one.
    pub range: String,
    /// The status that was answered.
    pub status: u16,
    /// Bytes of body sent. Less than the range when the client hung up.
    pub body_bytes: u64,
    /// Bytes sent in all, with headers (of HTTP, not of TLS).
    pub sent_bytes: u64,
}

impl Nginx {
    /// An nginx that will serve the files in `root`; on 127.0.0.1 and a free port unless told otherwise.
    pub fn serve(root: impl Into<PathBuf>) -> NginxBuilder {
        NginxBuilder {
            root: root.into(),
            host: None,
            port: 0,
            identity: None,
            directives: String::new(),
            http_directives: String::new(),
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL of a file.
    pub fn url(&self, file: &str) -> String {
        format!("{}://{}/{}", self.scheme, self.address, file.trim_start_matches('/'))
    }

    /// The requests answered so far. nginx writes one down when it is over, not when it begins: await what you expect
    /// with [`crate::wait_until`].
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn hits(&self) -> Result<Vec<Hit>> {
        let path = &self.access_log;
        let log = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        // Only whole lines: the last one may still be in the writing.
        let whole = log.rfind('\n').map_or("", |end| &log[..end]);
        whole
            .lines()
            .map(|line| Hit::parse(line).with_context(|| format!("odd line in the log: {line:?}")))
            .collect()
    }

    /// The process, for its cost and its end.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

impl Hit {
    fn parse(line: &str) -> Option<Self> {
        let [client, method, path, range, status, body_bytes, sent_bytes] =
            line.split('\t').collect::<Vec<_>>().try_into().ok()?;
        Some(Self {
            client: client.parse().ok()?,
            method: method.to_owned(),
            path: path.to_owned(),
            range: range.strip_prefix('-').unwrap_or(range).to_owned(),
            status: status.parse().ok()?,
            body_bytes: body_bytes.parse().ok()?,
            sent_bytes: sent_bytes.parse().ok()?,
        })
    }
}

impl NginxBuilder {
    /// Runs it on `host`, at that host's address and port 80 (443 with TLS) unless [`Self::port`] says otherwise.
    #[must_use]
    pub fn on(self, host: &Host) -> Self {
        Self { host: Some(host.clone()), ..self }
    }

    /// Listens on `port`.
    #[must_use]
    pub fn port(self, port: u16) -> Self {
        Self { port, ..self }
    }

    /// Speaks HTTPS with this certificate.
    #[must_use]
    pub fn tls(self, identity: Identity) -> Self {
        Self { identity: Some(identity), ..self }
    }

    /// Adds a line to the `server` block, such as `limit_rate 1m;` or `etag off;`.
    #[must_use]
    pub fn directive(mut self, line: &str) -> Self {
        self.directives.push_str(line);
        self.directives.push('\n');
        self
    }

    /// Adds lines to the `http` block, such as `proxy_cache_path …;`.
    #[must_use]
    pub fn http_directive(mut self, lines: &str) -> Self {
        self.http_directives.push_str(lines);
        self.http_directives.push('\n');
        self
    }

    /// Starts it and waits until it listens. Its files go to `dir`.
    ///
    /// # Errors
    /// nginx is missing, rejects the configuration, or does not come up; with its log.
    pub fn start(self, dir: &Path) -> Result<Nginx> {
        let scheme = if self.identity.is_some() { "https" } else { "http" };
        let default_port = if self.identity.is_some() { 443 } else { 80 };
        for _ in 0..PORT_TRIES {
            let address = match (&self.host, self.port) {
                (Some(host), 0) => SocketAddr::new(host.ip(), default_port),
                (Some(host), port) => SocketAddr::new(host.ip(), port),
                (None, 0) => free_port()?,
                (None, port) => SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port),
            };
            let name = format!("nginx-{}-{}", address.ip(), address.port());
            let work = dir.join(name.replace(':', "_"));
            fs::create_dir_all(&work).with_context(|| format!("cannot make {}", work.display()))?;
            let config = work.join("nginx.conf");
            fs::write(&config, self.config(&work, address)?).context("cannot write nginx.conf")?;
            let mut command = match &self.host {
                Some(host) => host.command("nginx"),
                None => Command::new("nginx"),
            };
            command.arg("-c").arg(&config).arg("-e").arg("stderr");
            let process = Process::spawn("nginx", command, &work)?;
            let access_log = work.join("access.log");
            let mut nginx = Nginx { process, address, scheme, access_log };
            if nginx.listens(&work.join("nginx.pid"))? {
                return Ok(nginx);
            }
            let log = nginx.process.stderr_tail();
            if self.port != 0 || self.host.is_some() || !log.contains("Address already in use") {
                bail!("nginx did not come up at {address}: {log}");
            }
        }
        bail!("found no port for nginx in {PORT_TRIES} tries")
    }

    fn config(&self, work: &Path, address: SocketAddr) -> Result<String> {
        let (work_dir, root, directives) = (work.display(), self.root.display(), &self.directives);
        let http_directives = &self.http_directives;
        let mut tls = String::new();
        if let Some(identity) = &self.identity {
            fs::write(work.join("cert.pem"), &identity.cert_pem).context("cannot write cert.pem")?;
            fs::write(work.join("key.pem"), &identity.key_pem).context("cannot write key.pem")?;
            tls = format!("ssl_certificate {work_dir}/cert.pem; ssl_certificate_key {work_dir}/key.pem;");
        }
        let ssl = if self.identity.is_some() { " ssl" } else { "" };
        // Started by root, its workers would become a user who may not read a test's private directory.
        let user = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
        Ok(format!(
            "{user}
daemon off;
worker_processes 1;
pid {work_dir}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 1024; }}
http {{
    log_format hits '$remote_addr\t$request_method\t$uri\t$http_range\t$status\t$body_bytes_sent\t$bytes_sent';
    access_log {work_dir}/access.log hits;
    default_type application/octet-stream;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 1000000;
    client_body_temp_path {work_dir}/body;
    proxy_temp_path {work_dir}/proxy;
    fastcgi_temp_path {work_dir}/fastcgi;
    uwsgi_temp_path {work_dir}/uwsgi;
    scgi_temp_path {work_dir}/scgi;
    {http_directives}
    server {{
        listen {address}{ssl};
        root {root};
        {tls}
        {directives}
    }}
}}
"
        ))
    }
}

impl Nginx {
    /// Waits until it listens (true) or has ended (false). nginx writes its pid file once its sockets are bound; to
    /// connect would prove less, for a stranger may hold the port while nginx still tries to get it.
    fn listens(&mut self, pid_file: &Path) -> Result<bool> {
        let outcome = poll(START_LIMIT, || match self.process.poll() {
            Ok(Some(_)) => Some(Ok(false)),
            Ok(None) => fs::metadata(pid_file).is_ok_and(|file| file.len() > 0).then_some(Ok(true)),
            Err(error) => Some(Err(error)),
        });
        outcome.unwrap_or_else(|| bail!("nginx runs but does not listen at {}", self.address))
    }
}

fn free_port() -> Result<SocketAddr> {
    let probe = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port on 127.0.0.1")?;
    probe.local_addr().context("a bound socket has no address")
}
