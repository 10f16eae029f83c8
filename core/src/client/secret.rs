//! Keys and tokens.

use std::fmt;

/// A key or a token: whatever must not be seen. `Debug` shows no part of it, not even its length, and there is no
/// `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes the text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself. Whoever calls this sees to it that it is shown to nobody.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// A text of somebody who may have quoted it, without it. `None`: it is not quoted there.
    pub(crate) fn taken_out_of(&self, text: &str) -> Option<String> {
        let is_quoted = !self.0.is_empty() && text.contains(&*self.0);
        is_quoted.then(|| text.replace(&*self.0, "[secret]"))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

/// The tokens of an account whose login is the application's own affair.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tokens {
    /// The access token, a JWT.
    pub access_token: Secret,
    /// The account, or workspace, that it is for.
    pub account_id: String,
    /// The account's plan, such as `plus`.
    pub plan_type: Option<String>,
}

impl Tokens {
    /// A token for an account.
    pub fn new(account_id: impl Into<String>, access_token: impl Into<Secret>) -> Self {
        Self { access_token: access_token.into(), account_id: account_id.into(), plan_type: None }
    }

    /// Sets the account's plan.
    #[must_use]
    pub fn plan_type(mut self, plan_type: impl Into<String>) -> Self {
        self.plan_type = Some(plan_type.into());
        self
    }
}
