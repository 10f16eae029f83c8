//! Logins that are waited for.
//!
//! The server says that a login has ended in `account/login/completed`, which can come before the answer to the request that
//! began it. So ends are kept for a while under the name that the server gave the login, and whoever waits finds what came
//! first. A key or a token has no such name: its end goes to the one who has waited longest.

use super::{Connection, Event};
use crate::{
    envelope::JsonText,
    error::Disconnect,
    protocol::{self, AccountLoginCompletedNotification},
    time::Time,
};
use alloc::{
    boxed::Box,
    collections::{BTreeMap, BTreeSet, VecDeque},
    vec::Vec,
};
use core::{fmt, time::Duration};

/// How many ends are kept that nobody waits for yet.
const MAX_EARLY: usize = 64;

/// The longest name of a login whose end is kept, in bytes.
const MAX_NAME: usize = 256;

/// How much is kept of what the server says of a login that failed, in characters.
const MAX_TEXT: usize = 4096;

/// Names a login that is waited for. Local to its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LoginKey(u64);

/// How a login ended.
#[derive(Clone)]
#[non_exhaustive]
pub enum LoginEnd {
    /// It was cancelled, here or because another login began.
    Cancelled,
    /// The connection ended.
    Disconnected(Disconnect),
    /// It did not work. The beginning of the server's text, for people; it changes between versions.
    Failed(Box<str>),
    /// It worked.
    Succeeded,
    /// It did not end in time. It may still.
    TimedOut,
}

impl fmt::Debug for LoginEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cancelled => f.write_str("Cancelled"),
            Self::Disconnected(cause) => f.debug_tuple("Disconnected").field(cause).finish(),
            Self::Failed(text) => write!(f, "Failed({} bytes)", text.len()),
            Self::Succeeded => f.write_str("Succeeded"),
            Self::TimedOut => f.write_str("TimedOut"),
        }
    }
}

#[derive(Clone, Debug)]
struct Waiting {
    /// The server's name; none for a key or a token.
    id: Option<Box<str>>,
    due: Option<Time>,
    /// Whether its cancelling was asked for here.
    cancelling: bool,
    end: Option<LoginEnd>,
}

#[derive(Clone, Default)]
pub(super) struct Logins {
    waiting: BTreeMap<LoginKey, Waiting>,
    next: u64,
    /// One for each that has a deadline and has not ended.
    timers: BTreeSet<(Time, LoginKey)>,
    /// What nobody waits for yet, oldest first. Length <= `MAX_EARLY`.
    early: VecDeque<(Box<str>, LoginEnd)>,
}

/// Commands: logins.
impl Connection {
    /// Waits for the end of a login: of this name, or, without one, of the next key or token. The latter must be called
    /// before the request is made. [`Event::Login`] says when it has ended.
    pub fn watch_login(&mut self, now: Time, id: Option<&str>, within: Option<Duration>) -> LoginKey {
        self.logins.next += 1;
        let key = LoginKey(self.logins.next);
        let early = id.and_then(|id| self.logins.early.iter().position(|(known, _)| **known == *id));
        let came = early.and_then(|at| self.logins.early.remove(at)).map(|(_, end)| end);
        let end = came.or_else(|| self.link.cause().map(LoginEnd::Disconnected));
        let due = within.filter(|_| end.is_none()).map(|within| now + within);
        if let Some(due) = due {
            self.logins.timers.insert((due, key));
        }
        self.logins.waiting.insert(key, Waiting { id: id.map(Box::from), due, cancelling: false, end });
        key
    }

    /// Sets by when a login must have ended, if it has not.
    pub fn set_login_deadline(&mut self, now: Time, key: LoginKey, within: Duration) {
        let Some(waiting) = self.logins.waiting.get_mut(&key).filter(|waiting| waiting.end.is_none()) else { return };
        let due = now + within;
        if let Some(old) = waiting.due.replace(due) {
            self.logins.timers.remove(&(old, key));
        }
        self.logins.timers.insert((due, key));
    }

    /// Says that a login is being cancelled, or (`done`) that the server has cancelled it.
    pub fn cancel_login(&mut self, key: LoginKey, done: bool) {
        if let Some(waiting) = self.logins.waiting.get_mut(&key) {
            waiting.cancelling = true;
        }
        if done {
            self.end_login(key, LoginEnd::Cancelled);
        }
    }

    /// How a login ended; `None` before that.
    #[must_use]
    pub fn login_end(&self, key: LoginKey) -> Option<&LoginEnd> {
        self.logins.waiting.get(&key)?.end.as_ref()
    }

    /// Says that nobody waits for a login any more.
    pub fn release_login(&mut self, key: LoginKey) {
        if let Some(Waiting { due: Some(due), .. }) = self.logins.waiting.remove(&key) {
            self.logins.timers.remove(&(due, key));
        }
    }
}

impl Connection {
    pub(super) fn watch_for_logins(&mut self, method: &str, params: Option<JsonText<'_>>) {
        if method != "account/login/completed" {
            return;
        }
        let read = params.and_then(|params| protocol::decode(params.get()).ok());
        let Some(AccountLoginCompletedNotification { login_id, success, error, .. }) = read else { return };
        let open = |waiting: &Waiting| waiting.end.is_none() && waiting.id.as_deref() == login_id.as_deref();
        let found = self.logins.waiting.iter().find(|(_, waiting)| open(waiting));
        let cancelling = found.is_some_and(|(_, waiting)| waiting.cancelling);
        let end = match success {
            true => LoginEnd::Succeeded,
            false if cancelling || error.as_deref().is_some_and(says_cancelled) => LoginEnd::Cancelled,
            false => LoginEnd::Failed(error.iter().flat_map(|text| text.chars()).take(MAX_TEXT).collect()),
        };
        match (found.map(|(key, _)| *key), login_id) {
            (Some(key), _) => self.end_login(key, end),
            (None, Some(id)) if id.len() <= MAX_NAME => {
                if self.logins.early.len() >= MAX_EARLY {
                    self.logins.early.pop_front();
                }
                self.logins.early.push_back((id.into(), end));
            }
            (None, _) => {}
        }
    }

    pub(super) fn expire_logins(&mut self, now: Time) {
        while let Some((due, key)) = self.logins.timers.first().copied() {
            if due > now {
                break;
            }
            self.logins.timers.remove(&(due, key));
            self.end_login(key, LoginEnd::TimedOut);
        }
    }

    pub(super) fn next_login_due(&self) -> Option<Time> {
        self.logins.timers.first().map(|(due, _)| *due)
    }

    pub(super) fn lose_logins(&mut self, cause: &Disconnect) {
        self.logins.early.clear();
        let keys: Vec<LoginKey> = self.logins.waiting.keys().copied().collect();
        for key in keys {
            self.end_login(key, LoginEnd::Disconnected(cause.clone()));
        }
    }

    pub(super) fn open_logins(&self) -> usize {
        self.logins.waiting.len()
    }

    fn end_login(&mut self, key: LoginKey, end: LoginEnd) {
        let Some(waiting) = self.logins.waiting.get_mut(&key).filter(|waiting| waiting.end.is_none()) else { return };
        if let Some(due) = waiting.due.take() {
            self.logins.timers.remove(&(due, key));
        }
        waiting.end = Some(end);
        self.events.push_back(Event::Login(key));
    }
}

/// Whether the server's text says that the login was cancelled. It says so in English only.
fn says_cancelled(text: &str) -> bool {
    const KNOWN: [&str; 3] = ["Login cancelled", "Login was not completed", "Login canceled"];
    KNOWN.iter().any(|known| text.ends_with(known))
}
