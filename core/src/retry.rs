//! When to try again: a policy that reads no clock and draws no random number.
//!
//! The server refuses requests under overload, and a request that was refused so was not executed: it may be sent again,
//! a little later. So may what was never sent: a queue was full here, or the system could not start the process just then.
//! What may have had an effect, because its answer was lost, is never tried again.
//!
//! ```
//! use std::time::Duration;
//! use turnwire_core::retry::RetryPolicy;
//!
//! let policy = RetryPolicy::new().max_attempts(4).jitter_percent(0);
//! let waits: Vec<Duration> = policy.delays(0).collect();
//! assert_eq!(waits, [250, 500, 1000].map(Duration::from_millis)); // between four attempts
//! ```

use crate::error::{CallError, ConnectError, Error, RpcErrorKind, SteerError, ThreadError, TurnError};
use core::{fmt, time::Duration};

/// How often, how soon and how long something is tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RetryPolicy {
    /// How often it is tried in all, the first time included. 5 by default; 0 counts as 1.
    pub max_attempts: u32,
    /// The wait after the first attempt. 250 ms by default.
    pub base: Duration,
    /// By how much each wait is longer than the one before. 2 by default.
    pub factor: u32,
    /// The longest wait, before jitter. 2 s by default.
    pub cap: Duration,
    /// By how much of itself a wait is made shorter or longer at random, in percent. 20 by default; at most 100 counts.
    pub jitter_percent: u32,
    /// How long it may take in all. A wait that would end later is not begun. 60 s by default.
    pub total: Duration,
    /// Where the jitter comes from; `None` has the client choose. The same seed gives the same waits.
    pub seed: Option<u64>,
    /// Whether a turn that ran and failed because the model's server was overloaded is tried again as well. What it did
    /// until then stays done, and its input stays in the thread, so this is off by default.
    pub rerun_turns: bool,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_attempts: 5,
            base: Duration::from_millis(250),
            factor: 2,
            cap: Duration::from_secs(2),
            jitter_percent: 20,
            total: Duration::from_secs(60),
            seed: None,
            rerun_turns: false,
        }
    }
}

impl RetryPolicy {
    /// The default.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how often it is tried in all.
    #[must_use]
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = attempts;
        self
    }

    /// Sets the wait after the first attempt.
    #[must_use]
    pub fn base(mut self, base: Duration) -> Self {
        self.base = base;
        self
    }

    /// Sets by how much each wait is longer than the one before.
    #[must_use]
    pub fn factor(mut self, factor: u32) -> Self {
        self.factor = factor;
        self
    }

    /// Sets the longest wait, before jitter.
    #[must_use]
    pub fn cap(mut self, cap: Duration) -> Self {
        self.cap = cap;
        self
    }

    /// Sets by how much of itself a wait varies, in percent.
    #[must_use]
    pub fn jitter_percent(mut self, percent: u32) -> Self {
        self.jitter_percent = percent;
        self
    }

    /// Sets how long it may take in all.
    #[must_use]
    pub fn total(mut self, total: Duration) -> Self {
        self.total = total;
        self
    }

    /// Sets where the jitter comes from.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Sets whether turns that ran and failed under overload are tried again as well.
    #[must_use]
    pub fn rerun_turns(mut self, rerun: bool) -> Self {
        self.rerun_turns = rerun;
        self
    }

    /// The waits between the attempts. `seed` counts unless the policy has its own.
    #[must_use]
    pub fn delays(&self, seed: u64) -> Delays {
        Delays {
            left: self.max_attempts.saturating_sub(1),
            next: self.base.min(self.cap),
            factor: self.factor.max(1),
            cap: self.cap,
            jitter_percent: self.jitter_percent.min(100),
            random: self.seed.unwrap_or(seed),
        }
    }

    /// What to do after an attempt that failed, `elapsed` after the first one began: `Ok` with the wait before the next.
    ///
    /// # Errors
    /// When there is to be no next attempt: why.
    pub fn after(
        &self,
        failure: &(impl Retry + ?Sized),
        elapsed: Duration,
        delays: &mut Delays,
    ) -> Result<Duration, GaveUp> {
        match failure.overload() {
            Overload::Refused => {}
            Overload::Ran if self.rerun_turns => {}
            Overload::No | Overload::Ran => return Err(GaveUp::NotRetryable),
        }
        let delay = delays.next().ok_or(GaveUp::Attempts)?;
        if elapsed.saturating_add(delay) > self.total { Err(GaveUp::Total) } else { Ok(delay) }
    }
}

/// The waits between the attempts of a [`RetryPolicy`].
#[derive(Clone, Debug)]
pub struct Delays {
    left: u32,
    next: Duration,
    factor: u32,
    cap: Duration,
    jitter_percent: u32,
    random: u64,
}

impl Iterator for Delays {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.left = self.left.checked_sub(1)?;
        let plain = self.next;
        self.next = plain.saturating_mul(self.factor).min(self.cap);
        let width = u64::from(self.jitter_percent) * 2;
        if width == 0 {
            return Some(plain);
        }
        // A part in 2^32 of the whole width, from the upper bits, which are the better ones.
        let part = self.draw() >> 32;
        let percent_of_2_32 = ((100 - u64::from(self.jitter_percent)) << 32) + width * part;
        let nanos = plain.as_nanos().saturating_mul(u128::from(percent_of_2_32)) / 100 / (1 << 32);
        Some(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
    }
}

impl Delays {
    /// SplitMix64.
    fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.random;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }
}

/// What an error says about overload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Overload {
    /// Nothing.
    No,
    /// A turn ran and failed for it. What it did until then stays done.
    Ran,
    /// The request was refused for it, and was not executed.
    Refused,
}

/// An error of which a [`RetryPolicy`] can tell whether to try again.
pub trait Retry {
    /// What it says about overload.
    fn overload(&self) -> Overload;

    /// Whether what failed may have done something all the same.
    fn may_have_effect(&self) -> bool;
}

fn refused(is_refused: bool) -> Overload {
    if is_refused { Overload::Refused } else { Overload::No }
}

impl Retry for CallError {
    fn overload(&self) -> Overload {
        refused(self.is_retryable())
    }

    fn may_have_effect(&self) -> bool {
        self.may_have_effect()
    }
}

impl Retry for ThreadError {
    fn overload(&self) -> Overload {
        refused(self.is_retryable())
    }

    fn may_have_effect(&self) -> bool {
        self.may_have_effect()
    }
}

#[cfg(feature = "client")]
impl Retry for crate::client::PageError {
    fn overload(&self) -> Overload {
        refused(self.call().is_some_and(CallError::is_retryable))
    }

    fn may_have_effect(&self) -> bool {
        // Reading changes nothing.
        false
    }
}

impl Retry for SteerError {
    fn overload(&self) -> Overload {
        refused(self.is_retryable())
    }

    fn may_have_effect(&self) -> bool {
        matches!(self, Self::Call(error) if error.may_have_effect())
    }
}

impl Retry for ConnectError {
    fn overload(&self) -> Overload {
        refused(self.is_retryable())
    }

    fn may_have_effect(&self) -> bool {
        false
    }
}

impl Retry for TurnError {
    fn overload(&self) -> Overload {
        match self {
            Self::Failed(report) if report.error.as_ref().is_some_and(is_overload) => Overload::Ran,
            error => refused(error.is_retryable()),
        }
    }

    fn may_have_effect(&self) -> bool {
        match self {
            Self::Start(error) => error.may_have_effect(),
            Self::Busy(_) | Self::Input(_) | Self::QueueFull { .. } | Self::Relaxes(_) => false,
            _ => true,
        }
    }
}

#[cfg(feature = "client")]
impl Retry for crate::client::TypedError {
    fn overload(&self) -> Overload {
        match self {
            Self::Turn(error) => error.overload(),
            Self::Mismatch(_) | Self::Schema(_) => Overload::No,
        }
    }

    fn may_have_effect(&self) -> bool {
        match self {
            Self::Mismatch(_) => true,
            Self::Schema(_) => false,
            Self::Turn(error) => Retry::may_have_effect(error),
        }
    }
}

#[cfg(feature = "client")]
impl Retry for crate::client::AccountError {
    fn overload(&self) -> Overload {
        refused(self.is_retryable())
    }

    fn may_have_effect(&self) -> bool {
        match self {
            Self::Call(error) => error.may_have_effect(),
            Self::NeedsLogin(_) => false,
        }
    }
}

#[cfg(feature = "client")]
impl Retry for crate::client::LoginError {
    fn overload(&self) -> Overload {
        refused(self.is_retryable())
    }

    fn may_have_effect(&self) -> bool {
        match self {
            Self::Call(error) => error.may_have_effect(),
            // It was begun.
            _ => true,
        }
    }
}

impl Retry for Error {
    fn overload(&self) -> Overload {
        match self {
            Self::Call(error) => error.overload(),
            Self::Connect(error) => error.overload(),
            Self::Retry(error) => error.last.overload(),
            Self::Steer(error) => error.overload(),
            Self::Thread(error) => error.overload(),
            Self::Turn(error) => error.overload(),
            error => refused(error.is_retryable()),
        }
    }

    fn may_have_effect(&self) -> bool {
        match self {
            Self::Call(error) => error.may_have_effect(),
            Self::Steer(error) => Retry::may_have_effect(error),
            Self::Thread(error) => error.may_have_effect(),
            Self::Turn(error) => Retry::may_have_effect(error),
            Self::Retry(error) => error.may_have_effect(),
            // The server may have begun before it failed.
            Self::Rpc(error) => error.kind() == RpcErrorKind::Internal,
            #[cfg(feature = "client")]
            Self::Account(error) => Retry::may_have_effect(error),
            #[cfg(feature = "client")]
            Self::Login(error) => Retry::may_have_effect(error),
            #[cfg(feature = "client")]
            Self::Mismatch(_) => true,
            #[cfg(feature = "client")]
            Self::Page(_) | Self::Tool(_) | Self::ToolFailure(_) => false,
            // They do not say what was under way.
            Self::Disconnected(_) | Self::Other(_) => true,
            Self::Answer(_)
            | Self::ConfigValue(_)
            | Self::Connect(_)
            | Self::Decode(_)
            | Self::Format(_)
            | Self::Input(_)
            | Self::Schema(_)
            | Self::Usage(_) => false,
        }
    }
}

/// Whether a turn's error says that the model's server was overloaded.
fn is_overload(error: &crate::protocol::TurnError) -> bool {
    use crate::protocol::CodexErrorInfo;
    error.codex_error_info.as_ref().is_some_and(|info| match info {
        CodexErrorInfo::ServerOverloaded => true,
        info => matches!(&*info.kind(), "server_overloaded" | "server_is_overloaded"),
    })
}

/// Why something is not tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GaveUp {
    /// It was tried as often as it may be.
    Attempts,
    /// The connection ended while the next attempt was waited for.
    Closed,
    /// The error does not say that the request was refused for overload.
    NotRetryable,
    /// The next attempt would begin too late.
    Total,
}

/// Something did not work, and will not be tried again.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RetryError<E> {
    /// How often it was tried.
    pub attempts: u32,
    /// How long it took in all.
    pub elapsed: Duration,
    /// Why it is not tried again.
    pub gave_up: GaveUp,
    /// The error of the last attempt.
    pub last: E,
}

impl<E> RetryError<E> {
    /// What was known after the last attempt.
    pub fn new(attempts: u32, elapsed: Duration, gave_up: GaveUp, last: E) -> Self {
        Self { attempts, elapsed, gave_up, last }
    }

    /// Whether it was tried again until it could not be any more, rather than failed for a reason of its own.
    #[must_use]
    pub fn is_exhausted(&self) -> bool {
        matches!(self.gave_up, GaveUp::Attempts | GaveUp::Total)
    }
}

impl<E: Retry> RetryError<E> {
    /// Whether what failed may have done something all the same.
    #[must_use]
    pub fn may_have_effect(&self) -> bool {
        self.last.may_have_effect()
    }
}

impl<E: fmt::Display> fmt::Display for RetryError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { attempts, elapsed, gave_up, last } = self;
        match gave_up {
            GaveUp::NotRetryable => write!(f, "{last}"),
            GaveUp::Attempts | GaveUp::Total => {
                write!(f, "given up after {attempts} attempts in {elapsed:.1?}; the last one: {last}")
            }
            GaveUp::Closed => {
                write!(f, "the connection ended after {attempts} attempts; the last one: {last}")
            }
        }
    }
}

impl<E: core::error::Error + 'static> core::error::Error for RetryError<E> {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        Some(&self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Fault, RpcError};
    use alloc::vec::Vec;

    fn overload() -> CallError {
        CallError::new("model/list", Fault::Rpc(RpcError::new(-32001, "Server overloaded; retry later.")))
    }

    #[test]
    fn rq_07_waits_double_up_to_the_cap() {
        let policy = RetryPolicy::new().max_attempts(7).jitter_percent(0).cap(Duration::from_secs(3));
        let waits: Vec<Duration> = policy.delays(1).collect();
        assert_eq!(waits, [250, 500, 1000, 2000, 3000, 3000].map(Duration::from_millis));
        assert_eq!(RetryPolicy::new().max_attempts(0).delays(1).count(), 0);
    }

    #[test]
    fn rq_07_jitter_is_bounded_and_comes_from_the_seed() {
        let policy = RetryPolicy::new().max_attempts(200).base(Duration::from_secs(1)).cap(Duration::from_secs(1));
        let waits: Vec<Duration> = policy.delays(7).collect();
        assert!(waits.iter().all(|wait| (800..=1200).contains(&wait.as_millis())), "{waits:?}");
        let spread = waits.iter().max().expect("some").saturating_sub(*waits.iter().min().expect("some"));
        assert!(spread > Duration::from_millis(200), "{spread:?}");
        assert_eq!(waits, policy.delays(7).collect::<Vec<_>>());
        assert_ne!(waits, policy.delays(8).collect::<Vec<_>>());
        assert_eq!(waits, policy.clone().seed(7).delays(8).collect::<Vec<_>>());
    }

    #[test]
    fn rq_07_attempts_total_and_the_kind_of_error_bound_it() {
        let policy = RetryPolicy::new().max_attempts(3).jitter_percent(0).total(Duration::from_secs(1));
        let mut delays = policy.delays(0);
        let start = Duration::ZERO;
        assert_eq!(policy.after(&overload(), start, &mut delays), Ok(Duration::from_millis(250)));
        assert_eq!(policy.after(&overload(), start, &mut delays), Ok(Duration::from_millis(500)));
        assert_eq!(policy.after(&overload(), start, &mut delays), Err(GaveUp::Attempts));
        let late = Duration::from_millis(800);
        assert_eq!(policy.after(&overload(), late, &mut policy.delays(0)), Err(GaveUp::Total));
        let invalid = CallError::new("model/list", Fault::Rpc(RpcError::new(-32602, "no")));
        assert_eq!(policy.after(&invalid, start, &mut policy.delays(0)), Err(GaveUp::NotRetryable));
    }

    #[cfg(feature = "client")]
    #[test]
    fn typed_answers_and_accounts_say_whether_they_were_refused_for_overload() {
        use crate::{
            client::{AccountError, LoginError, TypedError},
            schema::SchemaError,
        };

        fn said(error: &impl Retry) -> (bool, bool) {
            (matches!(error.overload(), Overload::Refused), error.may_have_effect())
        }
        let broken = || CallError::new("turn/start", Fault::Rpc(RpcError::new(-32603, "it broke")));
        assert_eq!(said(&TypedError::Turn(TurnError::Start(overload()))), (true, false));
        assert_eq!(said(&TypedError::Turn(TurnError::Start(broken()))), (false, true));
        assert_eq!(said(&TypedError::Schema(SchemaError { faults: Vec::new() })), (false, false));
        assert_eq!(said(&AccountError::Call(overload())), (true, false));
        assert_eq!(said(&AccountError::NeedsLogin(RpcError::new(-32600, "not logged in"))), (false, false));
        assert_eq!(said(&LoginError::Call(overload())), (true, false));
        assert_eq!(said(&LoginError::Call(broken())), (false, true));
        assert_eq!(said(&LoginError::TimedOut), (false, true));
        assert_eq!(said(&Error::Account(AccountError::Call(overload()))), (true, false));
        assert_eq!(said(&Error::Login(LoginError::Call(overload()))), (true, false));
    }
}
