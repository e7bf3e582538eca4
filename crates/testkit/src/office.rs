//! An office on the loopback interface: an origin, a coordinator, and files for both.

use std::cell::Cell;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::{Agent, Fleet, Nginx, OPEN_POLICY, TestCa, random_file};

/// An office: nginx as origin, a coordinator that may read from it, and as many agents as a test starts.
///
/// Offices of one test program share addresses, not ports, so they do not disturb each other.
#[derive(Debug)]
pub struct Office {
    net: [u8; 3],
    last: Cell<u8>,
    ca: Option<PathBuf>,
    /// The origin.
    pub origin: Nginx,
    /// The coordinator.
    pub fleet: Fleet,
    /// Last: the daemons end before their files go.
    dir: tempfile::TempDir,
}

impl Office {
    /// Opens an office whose daemons have addresses in `127.net.0.0/24`, with further `directives` for nginx.
    ///
    /// # Errors
    /// A daemon does not become ready.
    pub fn new(net: u8, directives: &[&str]) -> Result<Self> {
        Self::open(net, directives, None, "")
    }

    /// The same with an origin that speaks HTTPS with a certificate of an authority that only this office knows.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with_https(net: u8, directives: &[&str]) -> Result<Self> {
        Self::open(net, directives, Some(TestCa::new()?), "")
    }

    /// The same with further TOML for the coordinator. The agents get the addresses `127.net.0.11` and up.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with_coordinator(net: u8, directives: &[&str], config: &str) -> Result<Self> {
        Self::open(net, directives, None, config)
    }

    fn open(net: u8, directives: &[&str], ca: Option<TestCa>, more: &str) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let root = dir.path().join("www");
        fs::create_dir(&root)?;
        let mut nginx = Nginx::serve(&root);
        for directive in directives {
            nginx = nginx.directive(directive);
        }
        let mut config = "ingest_allow = [\"127.0.0.0/8\"]\n".to_owned();
        let ca = match ca {
            None => None,
            Some(ca) => {
                let path = dir.path().join("ca.pem");
                fs::write(&path, ca.cert_pem())?;
                nginx = nginx.tls(ca.issue("origin.example", IpAddr::V4(Ipv4Addr::LOCALHOST))?);
                config.push_str(&format!("ingest_ca = [{path:?}]\n"));
                Some(path)
            }
        };
        config.push_str(more);
        let origin = nginx.start(dir.path())?;
        let net = [127, net, 0];
        let fleet = Fleet::start(&dir.path().join("fleet"), address(net, 1), None, &config)?;
        Ok(Self { net, last: Cell::new(10), ca, origin, fleet, dir })
    }

    /// A path for the test's own files.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The directory that the origin serves.
    pub fn root(&self) -> PathBuf {
        self.path("www")
    }

    /// The certificate authority of an office [`with_https`](Self::with_https).
    pub fn ca(&self) -> Option<&Path> {
        self.ca.as_deref()
    }

    /// Puts a file of random bytes on the origin; the bytes follow from the size.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn file(&self, name: &str, size: u64) -> Result<PathBuf> {
        let path = self.root().join(name);
        random_file(&path, size ^ 77, size).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    /// Puts a file on the origin and publishes it: the file, its URL and its content id.
    ///
    /// # Errors
    /// It cannot be written or published.
    pub fn published(&self, name: &str, size: u64) -> Result<(PathBuf, String, String)> {
        let (path, url) = (self.file(name, size)?, self.origin.url(name));
        let record = self.fleet.publish(&path, &url)?;
        let id = record["FileId"].as_str().context("no FileId")?.to_owned();
        Ok((path, url, id))
    }

    /// Starts an agent that shares whatever it has.
    ///
    /// # Errors
    /// It does not become ready.
    pub fn agent(&self, name: &str) -> Result<Agent> {
        self.agent_with(name, OPEN_POLICY, &[])
    }

    /// Starts an agent with a policy and further arguments.
    ///
    /// # Errors
    /// It does not become ready.
    pub fn agent_with(&self, name: &str, policy: &str, args: &[&str]) -> Result<Agent> {
        self.agent_in(name, policy, args, &[])
    }

    /// The same for an agent that enrols with a token of its own.
    ///
    /// # Errors
    /// It does not become ready.
    pub fn agent_as(&self, name: &str, token: &str, policy: &str, args: &[&str]) -> Result<Agent> {
        self.start_agent(name, token, policy, args, &[])
    }

    /// Starts an agent with a policy, further arguments and environment variables. Its state is in `agents/NAME/data`.
    ///
    /// # Errors
    /// It does not become ready.
    pub fn agent_in(&self, name: &str, policy: &str, args: &[&str], env: &[(&str, &str)]) -> Result<Agent> {
        self.start_agent(name, &self.fleet.enroll_token()?, policy, args, env)
    }

    fn start_agent(
        &self,
        name: &str,
        token: &str,
        policy: &str,
        args: &[&str],
        env: &[(&str, &str)],
    ) -> Result<Agent> {
        self.last.set(self.last.get() + 1);
        let mut all = vec!["--coordinator", &self.fleet.url, "--token", token];
        all.extend(args);
        let all = all.into_iter().map(str::to_owned).collect();
        let env = env.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let listen = address(self.net, self.last.get());
        Agent::start_in(&self.path("agents").join(name), name, listen, policy, all, env)
    }

    /// Body bytes that the origin has sent.
    ///
    /// # Errors
    /// Its log cannot be read.
    pub fn origin_bytes(&self) -> Result<u64> {
        Ok(self.origin.hits()?.iter().map(|hit| hit.body_bytes).sum())
    }
}

fn address([a, b, c]: [u8; 3], last: u8) -> SocketAddr {
    SocketAddr::from(([a, b, c, last], 0))
}
