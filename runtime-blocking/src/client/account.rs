//! Accounts: logging in and out, and what the account may still use.

use super::Codex;
use crate::wait::wait;
use std::time::Duration;
use turnwire_core::{
    client::{self, AccountError, LoginError, Secret, Tokens},
    error::CallError,
    protocol::{CancelLoginAccountStatus, GetAccountRateLimitsResponse, GetAccountResponse},
};

impl Codex {
    /// Who is logged in (`account/read`), without asking anybody outside. `refresh`: with a new token first.
    ///
    /// # Errors
    /// As for [`request`](Self::request).
    pub fn account(&self, refresh: bool) -> Result<GetAccountResponse, CallError> {
        wait(self.inner.account(refresh))
    }

    /// Checks that the login is good now, with one `account/read` that asks for a new token. Nothing else ever does that, so
    /// whoever wants to know before a turn fails asks here.
    ///
    /// # Errors
    /// [`AccountError::NeedsLogin`] when the server's model needs a login and there is none, and as for
    /// [`request`](Self::request).
    pub fn ensure_fresh_login(&self) -> Result<GetAccountResponse, AccountError> {
        wait(self.inner.ensure_fresh_login())
    }

    /// What is left of the account's limits (`account/rateLimits/read`). [`events`](Self::events) tells of changes, as
    /// `Event::RateLimits`.
    ///
    /// # Errors
    /// [`AccountError::NeedsLogin`] when the login is not of the kind that has limits, and as for
    /// [`request`](Self::request).
    pub fn rate_limits(&self) -> Result<GetAccountRateLimitsResponse, AccountError> {
        wait(self.inner.rate_limits())
    }

    /// Forgets the login (`account/logout`). Works without one too.
    ///
    /// # Errors
    /// As for [`request`](Self::request).
    pub fn logout(&self) -> Result<(), CallError> {
        wait(self.inner.logout())
    }

    /// Logs in with a key (`account/login/start`), and waits until the server says that it has taken it, for at most
    /// `Timeouts::reply`. The server keeps the key in its home, and does not check it.
    ///
    /// # Errors
    /// When the request does not work, or the server says that the login failed.
    pub fn login_api_key(&self, key: impl Into<Secret>) -> Result<(), LoginError> {
        wait(self.inner.login_api_key(key))
    }

    /// Logs in with tokens that this program gets and renews itself (`account/login/start`). When the server needs a new one
    /// it asks: see `Handlers::token_refresh`. Experimental.
    ///
    /// # Errors
    /// As for [`login_api_key`](Self::login_api_key).
    pub fn login_tokens(&self, tokens: Tokens) -> Result<(), LoginError> {
        wait(self.inner.login_tokens(tokens))
    }

    /// Begins a login by a browser (`account/login/start`): the user visits a page, and the server listens on a port of this
    /// machine for the outcome. That port is one for all servers of the machine: a login that is under way already, of this
    /// server or of another, is cancelled by them.
    ///
    /// # Errors
    /// When the request does not work.
    pub fn login_browser(&self) -> Result<BrowserLogin, LoginError> {
        wait(self.inner.login_browser()).map(|inner| BrowserLogin { inner })
    }

    /// Begins a login by a code (`account/login/start`): the user visits a page, on any machine, and types the code there.
    ///
    /// # Errors
    /// When the request does not work. The server asks for the code outside, so it needs the network.
    pub fn login_device_code(&self) -> Result<DeviceLogin, LoginError> {
        wait(self.inner.login_device_code()).map(|inner| DeviceLogin { inner })
    }
}

/// A login by a browser that has begun. See [`turnwire_core::client::BrowserLogin`].
#[derive(Clone, Debug)]
pub struct BrowserLogin {
    inner: client::BrowserLogin,
}

impl BrowserLogin {
    /// The server's name for it.
    #[must_use]
    pub fn login_id(&self) -> &str {
        self.inner.login_id()
    }

    /// The page that the user visits. It holds what must not be shown to others.
    #[must_use]
    pub fn auth_url(&self) -> &str {
        self.inner.auth_url()
    }

    /// Sets how long from now the login may take. Past that, [`wait`](Self::wait) ends as timed out; the login itself goes on
    /// until it is cancelled. Without this it is waited for as long as it takes.
    #[must_use]
    pub fn deadline(self, within: Duration) -> Self {
        Self { inner: self.inner.deadline(within) }
    }

    /// Waits for the end of the login, which is not missed if it came before the call. May be called again, and by several.
    ///
    /// # Errors
    /// When it fails, is cancelled, does not end in time, or the connection ends.
    pub fn wait(&self) -> Result<(), LoginError> {
        wait(self.inner.wait())
    }

    /// Cancels the login (`account/login/cancel`). Who waits for it finds it cancelled. `NotFound`: it was over already.
    ///
    /// # Errors
    /// As for [`Codex::request`].
    pub fn cancel(&self) -> Result<CancelLoginAccountStatus, CallError> {
        wait(self.inner.cancel())
    }
}

/// A login by a code that has begun. See [`turnwire_core::client::DeviceLogin`].
#[derive(Clone, Debug)]
pub struct DeviceLogin {
    inner: client::DeviceLogin,
}

impl DeviceLogin {
    /// The server's name for it.
    #[must_use]
    pub fn login_id(&self) -> &str {
        self.inner.login_id()
    }

    /// The page that the user visits.
    #[must_use]
    pub fn verification_url(&self) -> &str {
        self.inner.verification_url()
    }

    /// The code that the user types there.
    #[must_use]
    pub fn user_code(&self) -> &str {
        self.inner.user_code()
    }

    /// Sets how long from now the login may take. Past that, [`wait`](Self::wait) ends as timed out; the login itself goes on
    /// until it is cancelled. Without this it is waited for as long as it takes.
    #[must_use]
    pub fn deadline(self, within: Duration) -> Self {
        Self { inner: self.inner.deadline(within) }
    }

    /// Waits for the end of the login, which is not missed if it came before the call. May be called again, and by several.
    ///
    /// # Errors
    /// When it fails, is cancelled, does not end in time, or the connection ends.
    pub fn wait(&self) -> Result<(), LoginError> {
        wait(self.inner.wait())
    }

    /// Cancels the login (`account/login/cancel`). Who waits for it finds it cancelled. `NotFound`: it was over already.
    ///
    /// # Errors
    /// As for [`Codex::request`].
    pub fn cancel(&self) -> Result<CancelLoginAccountStatus, CallError> {
        wait(self.inner.cancel())
    }
}
