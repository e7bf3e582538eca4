//! Where the coordinator is and by what right it is asked, for the commands of administrators and publishers.

use anyhow::Context as _;
use clap::Args;
use peerage_api::client::{AdminClient, CoordinatorClient, TlsTrust};
use peerage_content::EnrolToken;

use crate::coordinator::{default_config, local_url};
use crate::exit::{chain, usage};

/// The file with the admin token in a coordinator's data directory.
const TOKEN_FILE: &str = "admin.token";

#[derive(Debug, Args)]
pub(crate) struct AdminArgs {
    /// The coordinator [default: the one on this host, https://127.0.0.1:7690]
    #[arg(long, value_name = "URL", env = "PEERAGE_COORDINATOR")]
    coordinator: Option<String>,
    /// Admin token, or @FILE that holds it [default: that of the coordinator on this host, if it can be read]
    #[arg(long, value_name = "TOKEN", env = "PEERAGE_ADMIN_TOKEN", hide_env_values = true)]
    token: Option<String>,
}

impl AdminArgs {
    /// A client with the right to publish. Connects nowhere yet.
    ///
    /// # Errors
    /// There is no token, or it or the URL is not one.
    pub(crate) fn client(&self) -> anyhow::Result<AdminClient> {
        let token = self.token()?;
        let url = match self.coordinator.as_deref().filter(is_said) {
            Some(url) => url.to_owned(),
            None => local_url(default_config()?.listen),
        };
        // The token vouches for the coordinator's key: no other proof of who answers is needed.
        let client = CoordinatorClient::new(&url, TlsTrust::Pin(token.tls_pin))?;
        Ok(client.admin(&token))
    }

    fn token(&self) -> anyhow::Result<EnrolToken> {
        if let Some(text) = self.token.as_deref().filter(is_said) {
            return peerage_agent::read_token(text).map_err(|error| usage(chain(&error)));
        }
        let path = default_config()?.data_dir.join(TOKEN_FILE);
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("{}", path.display()))
            .map_err(|error| {
                let why = chain(&error);
                usage(format!(
                    "no admin token: give --coordinator URL and --token TOKEN or @FILE (or set PEERAGE_COORDINATOR \
                     and PEERAGE_ADMIN_TOKEN), or run this on the coordinator's host as its user ({why})"
                ))
            })?;
        text.parse().map_err(|error| usage(format!("{}: {error}", path.display())))
    }
}

/// An empty environment variable says nothing.
fn is_said(text: &&str) -> bool {
    !text.is_empty()
}
