//! The coordinator's endpoints of fleet policy: what a device asks, and what an administrator publishes.

use std::time::Duration;

use http::Method;

use super::admin::AdminClient;
use super::coordinator::MAX_ANSWER;
use super::device::DeviceClient;
use crate::ApiError;
use crate::coordinator::{
    HistoryQuery, PolicyQuery, PolicyResponse, PolicyRevision, PushPolicyRequest, RemovePolicyRequest,
    RollbackRequest,
};

impl DeviceClient {
    /// `GET /v1/policy`: the fleet policy of this device, once it is another than `have`.
    ///
    /// # Errors
    /// Unreachable, or what the coordinator says.
    pub async fn policy(&self, query: &PolicyQuery) -> Result<PolicyResponse, ApiError> {
        let (path, wait) = (policy_path(query), Duration::from_millis(query.wait_ms));
        self.ask(Method::GET, &path, None::<&()>, wait, MAX_ANSWER).await?.json()
    }
}

impl AdminClient {
    /// `POST /v1/policies`.
    ///
    /// # Errors
    /// Unreachable; [`crate::Code::BadRequest`] with everything that is wrong with the policy.
    pub async fn push_policy(&self, request: &PushPolicyRequest) -> Result<PolicyRevision, ApiError> {
        self.ask(Method::POST, "v1/policies", Some(request), Duration::ZERO).await?.json()
    }

    /// `POST /v1/policies/rollback`.
    ///
    /// # Errors
    /// Unreachable; [`crate::Code::NotFound`] when there is nothing to go back to.
    pub async fn roll_back_policy(&self, request: &RollbackRequest) -> Result<PolicyRevision, ApiError> {
        self.ask(Method::POST, "v1/policies/rollback", Some(request), Duration::ZERO).await?.json()
    }

    /// `POST /v1/policies/remove`.
    ///
    /// # Errors
    /// Unreachable; [`crate::Code::NotFound`] when no policy holds for those devices.
    pub async fn remove_policy(&self, request: &RemovePolicyRequest) -> Result<PolicyRevision, ApiError> {
        self.ask(Method::POST, "v1/policies/remove", Some(request), Duration::ZERO).await?.json()
    }

    /// `GET /v1/policies`, newest first.
    ///
    /// # Errors
    /// Unreachable, or what the coordinator says.
    pub async fn policies(&self, query: &HistoryQuery) -> Result<Vec<PolicyRevision>, ApiError> {
        let path = history_path(query);
        self.ask(Method::GET, &path, None::<&()>, Duration::ZERO).await?.json()
    }
}

fn policy_path(query: &PolicyQuery) -> String {
    let mut text = url::form_urlencoded::Serializer::new(String::new());
    if let Some(have) = &query.have {
        text.append_pair("have", &have.to_string());
    }
    if let Some(group) = &query.group {
        text.append_pair("group", group);
    }
    if let Some(applied) = query.applied {
        text.append_pair("applied", &applied.to_string());
    }
    if query.refused {
        text.append_pair("refused", "true");
    }
    if query.relay {
        text.append_pair("relay", "true");
    }
    text.append_pair("at", &query.at).append_pair("wait_ms", &query.wait_ms.to_string());
    format!("v1/policy?{}", text.finish())
}

fn history_path(query: &HistoryQuery) -> String {
    let mut text = url::form_urlencoded::Serializer::new(String::new());
    if let Some(selector) = &query.selector {
        text.append_pair("selector", selector);
    }
    text.append_pair("all", if query.all { "true" } else { "false" });
    format!("v1/policies?{}", text.finish())
}
