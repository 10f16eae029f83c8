//! Accounts: logging in and out, and what the account may still use.

use super::{Codex, Secret, Tokens, hub::Session, threads::ask, waiting::Wait};
use crate::{
    connection::{Connection, LoginEnd, LoginKey},
    error::{CallError, Disconnect, Fault, RpcError},
    json::Json,
    launch::ExitReport,
    protocol::{
        AccountLoginStart, AccountLogout, ApiKeyLoginAccountParams, CancelLoginAccount, CancelLoginAccountStatus,
        ChatgptAuthTokensLoginAccountParams, ChatgptLoginAccountParams, GetAccount, GetAccountRateLimits,
        GetAccountRateLimitsResponse, GetAccountResponse, LoginAccountResponse, Request,
    },
};
use std::{fmt, sync::Arc, task::Poll, time::Duration};

/// A login did not work.
#[derive(Clone)]
#[non_exhaustive]
pub enum LoginError {
    /// The request itself did not work.
    Call(CallError),
    /// It was cancelled: here, by another client, or because another login began.
    Cancelled,
    /// The connection ended before it did.
    Disconnected(Disconnect),
    /// The server says that it failed. The text is for people.
    Failed(Box<str>),
    /// It did not end in time. It may still: whoever gives it up cancels it.
    TimedOut,
}

impl LoginError {
    /// Whether the same login may simply be tried again: it was refused without being begun.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Call(error) if error.is_retryable())
    }

    /// Whether a deadline passed.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        match self {
            Self::Call(error) => error.is_timeout(),
            Self::TimedOut => true,
            _ => false,
        }
    }

    /// Whether the connection is over.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        match self {
            Self::Call(error) => error.is_closed(),
            Self::Disconnected(_) => true,
            _ => false,
        }
    }
}

impl fmt::Debug for LoginError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call(error) => f.debug_tuple("Call").field(error).finish(),
            Self::Cancelled => f.write_str("Cancelled"),
            Self::Disconnected(cause) => f.debug_tuple("Disconnected").field(cause).finish(),
            Self::Failed(text) => write!(f, "Failed({} bytes)", text.len()),
            Self::TimedOut => f.write_str("TimedOut"),
        }
    }
}

impl fmt::Display for LoginError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call(error) => error.fmt(f),
            Self::Cancelled => f.write_str("the login was cancelled"),
            Self::Disconnected(cause) => write!(f, "the login was lost: {cause}"),
            Self::Failed(text) => write!(f, "the login failed: {text}"),
            Self::TimedOut => f.write_str("the login did not end in time"),
        }
    }
}

impl std::error::Error for LoginError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Call(error) => Some(error),
            Self::Disconnected(cause) => Some(cause),
            Self::Cancelled | Self::Failed(_) | Self::TimedOut => None,
        }
    }
}

impl LoginError {
    /// Takes a secret out of the texts of the server, which may have quoted what it was sent.
    fn without(mut self, secret: &Secret) -> Self {
        let clean_text = |text: &mut String| *text = secret.taken_out_of(text).unwrap_or(std::mem::take(text));
        let clean_json = |json: &mut Json| {
            if let Some(clean) = secret.taken_out_of(json.as_str()) {
                *json = Json::parse(&clean).unwrap_or_default();
            }
        };
        // A server that cannot read a line may say so on stderr, and quote it.
        let clean_report = |report: &mut ExitReport| {
            for text in [&mut report.stderr_tail, &mut report.stderr_since_output] {
                if let Some(clean) = secret.taken_out_of(text) {
                    *text = clean.into();
                }
            }
        };
        let clean_cause = |cause: &mut Disconnect| {
            let exit = cause.exit().cloned().map(|mut report| {
                clean_report(&mut report);
                report
            });
            *cause = Disconnect::new(cause.reason().clone(), exit);
        };
        match &mut self {
            Self::Call(CallError { fault: Fault::Rpc(error), .. }) => {
                clean_text(&mut error.message);
                error.data.iter_mut().for_each(clean_json);
            }
            Self::Call(CallError { fault: Fault::TimedOut { process, .. }, .. }) => {
                process.iter_mut().for_each(|report| clean_report(report));
            }
            Self::Call(CallError { fault: Fault::Disconnected { cause, .. }, .. }) | Self::Disconnected(cause) => {
                clean_cause(cause);
            }
            Self::Call(CallError { fault: Fault::Decode { message, raw, .. }, .. }) => {
                clean_text(message);
                clean_json(raw);
            }
            Self::Failed(text) => {
                if let Some(clean) = secret.taken_out_of(text) {
                    *text = clean.into();
                }
            }
            _ => {}
        }
        self
    }
}

impl From<CallError> for LoginError {
    fn from(error: CallError) -> Self {
        Self::Call(error)
    }
}

/// A request about the account did not work.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum AccountError {
    /// The request did not work.
    Call(CallError),
    /// There is no login, or not one of the kind that is needed: a key has no limits to read. The server's own error.
    NeedsLogin(RpcError),
}

impl AccountError {
    /// Whether the same call may simply be tried again: it was refused without being executed.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Call(error) if error.is_retryable())
    }

    /// Whether a deadline passed.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::Call(error) if error.is_timeout())
    }

    /// Whether the connection is over.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self, Self::Call(error) if error.is_closed())
    }

    fn of(error: CallError) -> Self {
        match &error.fault {
            Fault::Rpc(rpc) if says_needs_login(rpc) => Self::NeedsLogin(rpc.clone()),
            _ => Self::Call(error),
        }
    }
}

impl fmt::Display for AccountError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call(error) => error.fmt(f),
            Self::NeedsLogin(error) => write!(f, "a login is needed first: {error}"),
        }
    }
}

impl std::error::Error for AccountError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Call(error) => Some(error),
            Self::NeedsLogin(error) => Some(error),
        }
    }
}

/// Whether the server refused for want of a login. It says so in English only.
fn says_needs_login(error: &RpcError) -> bool {
    const KNOWN: [&str; 3] = ["authentication required", "not logged in", "login required"];
    error.code == -32600 && KNOWN.iter().any(|known| error.message.contains(known))
}

impl Codex {
    /// Who is logged in (`account/read`), without asking anybody outside. `refresh`: with a new token first.
    ///
    /// # Errors
    /// As for [`request`](Self::request).
    ///
    /// # Cancel safety
    /// As for [`request`](Self::request).
    pub async fn account(&self, refresh: bool) -> Result<GetAccountResponse, CallError> {
        let params = GetAccount::new();
        self.request(if refresh { params.refresh_token(true) } else { params }).await
    }

    /// Checks that the login is good now, with one `account/read` that asks for a new token. Nothing else ever does that, so
    /// whoever wants to know before a turn fails asks here.
    ///
    /// # Errors
    /// [`AccountError::NeedsLogin`] when the server's model needs a login and there is none, and as for
    /// [`request`](Self::request).
    ///
    /// # Cancel safety
    /// As for [`request`](Self::request).
    pub async fn ensure_fresh_login(&self) -> Result<GetAccountResponse, AccountError> {
        let response = self.account(true).await.map_err(AccountError::of)?;
        if response.account.is_none() && response.requires_openai_auth {
            let error = RpcError::new(-32600, "the server has no account, and its model needs one");
            return Err(AccountError::NeedsLogin(error));
        }
        Ok(response)
    }

    /// What is left of the account's limits (`account/rateLimits/read`). [`events`](Self::events) tells of changes, as
    /// `Event::RateLimits`.
    ///
    /// # Errors
    /// [`AccountError::NeedsLogin`] when the login is not of the kind that has limits, and as for
    /// [`request`](Self::request).
    ///
    /// # Cancel safety
    /// As for [`request`](Self::request).
    pub async fn rate_limits(&self) -> Result<GetAccountRateLimitsResponse, AccountError> {
        self.request(GetAccountRateLimits::new()).await.map_err(AccountError::of)
    }

    /// Forgets the login (`account/logout`). Works without one too.
    ///
    /// # Errors
    /// As for [`request`](Self::request).
    ///
    /// # Cancel safety
    /// As for [`request`](Self::request).
    pub async fn logout(&self) -> Result<(), CallError> {
        self.request(AccountLogout::default()).await.map(drop)
    }

    /// Logs in with a key (`account/login/start`), and waits until the server says that it has taken it, for at most
    /// `Timeouts::reply`. The server keeps the key in its home, and does not check it.
    ///
    /// # Errors
    /// When the request does not work, or the server says that the login failed.
    ///
    /// # Cancel safety
    /// Dropping the future may leave the login done.
    pub async fn login_api_key(&self, key: impl Into<Secret>) -> Result<(), LoginError> {
        let key = key.into();
        let params = AccountLoginStart::ApiKey(ApiKeyLoginAccountParams::new(key.reveal()));
        self.login_unnamed(params).await.map_err(|error| error.without(&key))
    }

    /// Logs in with tokens that this program gets and renews itself (`account/login/start`). When the server needs a new one
    /// it asks: see `Handlers::token_refresh`. Experimental.
    ///
    /// # Errors
    /// As for [`login_api_key`](Self::login_api_key).
    ///
    /// # Cancel safety
    /// As for [`login_api_key`](Self::login_api_key).
    pub async fn login_tokens(&self, tokens: Tokens) -> Result<(), LoginError> {
        let token = tokens.access_token.reveal();
        let mut params = ChatgptAuthTokensLoginAccountParams::new(tokens.account_id.clone(), token);
        params.chatgpt_plan_type = tokens.plan_type.clone();
        let outcome = self.login_unnamed(AccountLoginStart::ChatgptAuthTokens(params)).await;
        outcome.map_err(|error| error.without(&tokens.access_token))
    }

    /// Begins a login by a browser (`account/login/start`): the user visits a page, and the server listens on a port of this
    /// machine for the outcome. That port is one for all servers of the machine: a login that is under way already, of this
    /// server or of another, is cancelled by them.
    ///
    /// # Errors
    /// When the request does not work.
    ///
    /// # Cancel safety
    /// Dropping the future may leave a login begun, which the next one cancels.
    pub async fn login_browser(&self) -> Result<BrowserLogin, LoginError> {
        let params = AccountLoginStart::Chatgpt(ChatgptLoginAccountParams::new());
        // The login is that server's, whoever has taken its place when the answer is heard of.
        let session = self.session();
        match ask(&session, params).await? {
            LoginAccountResponse::Chatgpt(response) => {
                let login = Login::new(&session, response.login_id);
                Ok(BrowserLogin { login, auth_url: response.auth_url })
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Begins a login by a code (`account/login/start`): the user visits a page, on any machine, and types the code there.
    ///
    /// # Errors
    /// When the request does not work. The server asks for the code outside, so it needs the network.
    ///
    /// # Cancel safety
    /// As for [`login_browser`](Self::login_browser).
    pub async fn login_device_code(&self) -> Result<DeviceLogin, LoginError> {
        let session = self.session();
        match ask(&session, AccountLoginStart::ChatgptDeviceCode).await? {
            LoginAccountResponse::ChatgptDeviceCode(response) => {
                let login = Login::new(&session, response.login_id);
                let (verification_url, user_code) = (response.verification_url, response.user_code);
                Ok(DeviceLogin { login, verification_url, user_code })
            }
            other => Err(unexpected(&other)),
        }
    }

    async fn login_unnamed(&self, params: AccountLoginStart) -> Result<(), LoginError> {
        let session = self.session();
        // Before the request, because its end may come before the answer.
        let within = session.hub.read(|connection| connection.config().timeouts.reply);
        let key = session.hub.command(|connection, now| connection.watch_login(now, None, None));
        let login = Watched { session: Arc::clone(&session), key };
        match ask(&session, params).await? {
            // A kind that is not known yet may well be what was asked for.
            LoginAccountResponse::ApiKey
            | LoginAccountResponse::ChatgptAuthTokens
            | LoginAccountResponse::Unknown(_) => {}
            // What ends under a name of its own, or is no answer at all, would be waited for in vain.
            other => return Err(unexpected(&other)),
        }
        session.hub.command(|connection, now| connection.set_login_deadline(now, key, within));
        login.wait().await
    }
}

fn unexpected(response: &LoginAccountResponse) -> LoginError {
    let raw = Json::encode(response).unwrap_or_default();
    let message = "the answer is for another kind of login".into();
    LoginError::Call(CallError::new(AccountLoginStart::METHOD, Fault::Decode { path: "type".into(), message, raw }))
}

/// A login that is waited for.
struct Watched {
    session: Arc<Session>,
    key: LoginKey,
}

impl Watched {
    async fn wait(&self) -> Result<(), LoginError> {
        let key = self.key;
        let look = |connection: &mut Connection| match connection.login_end(key) {
            Some(end) => Poll::Ready(end.clone()),
            None => Poll::Pending,
        };
        match self.session.hub.wait(Wait::Login(key), look).await {
            LoginEnd::Succeeded => Ok(()),
            LoginEnd::Cancelled => Err(LoginError::Cancelled),
            LoginEnd::Disconnected(cause) => Err(LoginError::Disconnected(cause)),
            LoginEnd::Failed(text) => Err(LoginError::Failed(text)),
            LoginEnd::TimedOut => Err(LoginError::TimedOut),
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let key = self.key;
        self.session.hub.command(|connection, _| connection.release_login(key));
        self.session.hub.forget(Wait::Login(key));
    }
}

#[derive(Clone)]
struct Login {
    watched: Arc<Watched>,
    id: String,
}

impl Login {
    fn new(session: &Arc<Session>, id: String) -> Self {
        let key = session.hub.command(|connection, now| connection.watch_login(now, Some(&id), None));
        Self { watched: Arc::new(Watched { session: Arc::clone(session), key }), id }
    }

    fn deadline(&self, within: Duration) {
        let key = self.watched.key;
        self.watched.session.hub.command(|connection, now| connection.set_login_deadline(now, key, within));
    }

    async fn cancel(&self) -> Result<CancelLoginAccountStatus, CallError> {
        let (hub, key) = (&self.watched.session.hub, self.watched.key);
        hub.command(|connection, _| connection.cancel_login(key, false));
        let response = ask(&self.watched.session, CancelLoginAccount::new(self.id.clone())).await?;
        if response.status == CancelLoginAccountStatus::Canceled {
            hub.command(|connection, _| connection.cancel_login(key, true));
        }
        Ok(response.status)
    }
}

macro_rules! logins {
    ($($name:ident),*) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name)).field("login_id", &self.login.id).finish_non_exhaustive()
            }
        }
    )*};
}
logins!(BrowserLogin, DeviceLogin);

/// A login by a browser that has begun. A handle: clones are the same login. Dropping it changes nothing: the server waits on.
#[derive(Clone)]
pub struct BrowserLogin {
    login: Login,
    auth_url: String,
}

impl BrowserLogin {
    /// The server's name for it.
    #[must_use]
    pub fn login_id(&self) -> &str {
        &self.login.id
    }

    /// The page that the user visits. It holds what must not be shown to others.
    #[must_use]
    pub fn auth_url(&self) -> &str {
        &self.auth_url
    }

    /// Sets how long from now the login may take. Past that, [`wait`](Self::wait) ends as timed out; the login itself goes on
    /// until it is cancelled. Without this it is waited for as long as it takes.
    #[must_use]
    pub fn deadline(self, within: Duration) -> Self {
        self.login.deadline(within);
        self
    }

    /// Waits for the end of the login, which is not missed if it came before the call. May be called again, and by several.
    ///
    /// # Errors
    /// When it fails, is cancelled, does not end in time, or the connection ends.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn wait(&self) -> Result<(), LoginError> {
        self.login.watched.wait().await
    }

    /// Cancels the login (`account/login/cancel`). Who waits for it finds it cancelled. `NotFound`: it was over already.
    ///
    /// # Errors
    /// As for [`Codex::request`].
    ///
    /// # Cancel safety
    /// As for [`Codex::request`].
    pub async fn cancel(&self) -> Result<CancelLoginAccountStatus, CallError> {
        self.login.cancel().await
    }
}

/// A login by a code that has begun. A handle: clones are the same login. Dropping it changes nothing: the server waits on.
#[derive(Clone)]
pub struct DeviceLogin {
    login: Login,
    verification_url: String,
    user_code: String,
}

impl DeviceLogin {
    /// The server's name for it.
    #[must_use]
    pub fn login_id(&self) -> &str {
        &self.login.id
    }

    /// The page that the user visits.
    #[must_use]
    pub fn verification_url(&self) -> &str {
        &self.verification_url
    }

    /// The code that the user types there.
    #[must_use]
    pub fn user_code(&self) -> &str {
        &self.user_code
    }

    /// Sets how long from now the login may take. Past that, [`wait`](Self::wait) ends as timed out; the login itself goes on
    /// until it is cancelled. Without this it is waited for as long as it takes.
    #[must_use]
    pub fn deadline(self, within: Duration) -> Self {
        self.login.deadline(within);
        self
    }

    /// Waits for the end of the login, which is not missed if it came before the call. May be called again, and by several.
    ///
    /// # Errors
    /// When it fails, is cancelled, does not end in time, or the connection ends.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn wait(&self) -> Result<(), LoginError> {
        self.login.watched.wait().await
    }

    /// Cancels the login (`account/login/cancel`). Who waits for it finds it cancelled. `NotFound`: it was over already.
    ///
    /// # Errors
    /// As for [`Codex::request`].
    ///
    /// # Cancel safety
    /// As for [`Codex::request`].
    pub async fn cancel(&self) -> Result<CancelLoginAccountStatus, CallError> {
        self.login.cancel().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Delivery, DisconnectReason};

    #[test]
    fn what_a_server_says_of_a_key_on_stderr_is_in_no_error_of_a_login() {
        let key = Secret::new("sk-very-secret");
        let mut report = ExitReport::new(None);
        report.stderr_tail = "cannot read {\"apiKey\":\"sk-very-secret\"}".into();
        report.stderr_since_output = report.stderr_tail.clone();
        let cause = Disconnect::new(DisconnectReason::Eof, Some(report.clone()));
        let call = |fault| LoginError::Call(CallError::new("account/login/start", fault));
        let (delivery, elapsed) = (Delivery::Sent, Duration::from_secs(1));
        for error in [
            call(Fault::TimedOut { delivery, elapsed, process: Some(Box::new(report)) }),
            call(Fault::Disconnected { delivery, cause: cause.clone() }),
            LoginError::Disconnected(cause),
        ] {
            let told = format!("{error}");
            assert!(told.contains("sk-very-secret"), "without anything done it is there: {told}");
            let clean = error.without(&key);
            let told = format!("{clean} {clean:?} {:?}", std::error::Error::source(&clean).map(ToString::to_string));
            assert!(!told.contains("sk-very-secret") && told.contains("[secret]"), "{told}");
        }
    }
}
