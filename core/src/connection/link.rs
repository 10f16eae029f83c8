//! The state of the connection itself: its handshake, its end, and what the server is.

use super::{Connection, Event, Lane, Purpose};
use crate::{
    error::{Delivery, Disconnect, DisconnectReason, Fault},
    json::Json,
    launch::ExitReport,
    protocol::{ClientInfo, Initialize, InitializeCapabilities, InitializeResponse},
    time::Time,
};
use alloc::{boxed::Box, string::String};
use core::time::Duration;

/// What the server said of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerInfo {
    /// The whole user agent.
    pub user_agent: String,
    /// The server's version: the part of the user agent between the first `/` and the space after it.
    pub version: Option<String>,
    /// Its home folder (`CODEX_HOME`).
    pub codex_home: String,
    /// For example `unix`.
    pub platform_family: String,
    /// For example `linux`.
    pub platform_os: String,
}

impl ServerInfo {
    fn new(response: InitializeResponse) -> Self {
        let version = response.user_agent.split_once('/').map(|(_, rest)| rest.split(' ').next().unwrap_or(rest));
        Self {
            version: version.filter(|version| !version.is_empty()).map(String::from),
            user_agent: response.user_agent,
            codex_home: response.codex_home,
            platform_family: response.platform_family,
            platform_os: response.platform_os,
        }
    }
}

/// How the connection stands.
#[derive(Debug)]
pub(super) enum Link {
    /// Over: everybody knows.
    Closed(Disconnect),
    /// The handshake is on its way.
    Connecting,
    /// Ending: nothing is sent any more, and what is still missing is waited for until then.
    Draining(Box<Draining>),
    /// In use.
    Ready,
}

#[derive(Debug)]
pub(super) struct Draining {
    reason: DisconnectReason,
    until: Time,
    eof: bool,
    exit: Option<ExitReport>,
    /// What is known of a process whose end is not.
    evidence: Option<ExitReport>,
}

impl Link {
    /// Whether nothing can be sent any more.
    pub(super) fn is_over(&self) -> bool {
        matches!(self, Self::Draining(_) | Self::Closed(_))
    }

    /// Why nothing can be sent any more, as far as is known.
    pub(super) fn cause(&self) -> Option<Disconnect> {
        match self {
            Self::Closed(cause) => Some(cause.clone()),
            Self::Draining(draining) => Some(Disconnect::new(draining.reason.clone(), draining.exit.clone())),
            Self::Connecting | Self::Ready => None,
        }
    }

    pub(super) fn closed(&self) -> Option<&Disconnect> {
        match self {
            Self::Closed(cause) => Some(cause),
            _ => None,
        }
    }

    pub(super) fn drains_until(&self) -> Option<Time> {
        match self {
            Self::Draining(draining) => Some(draining.until),
            _ => None,
        }
    }
}

impl Connection {
    /// Ends the connection from this side: whatever waits fails now, the server's input is closed, and the server's end
    /// is waited for, for at most `within`.
    pub fn close(&mut self, now: Time, within: Duration) {
        if self.link.is_over() {
            return;
        }
        self.drain(now, DisconnectReason::ClosedByCaller);
        if let Link::Draining(draining) = &mut self.link {
            draining.until = now + within;
        }
        if self.config.expects_exit {
            self.fail_everything(now, &Disconnect::new(DisconnectReason::ClosedByCaller, None));
        } else {
            // There is nothing to wait for: whether and when the peer closes its side is its own affair.
            self.finish_link();
        }
    }

    pub(super) fn initialize(&mut self, now: Time) {
        let config = &self.config;
        let mut client_info = ClientInfo::new(config.client_name.clone(), config.client_version.clone());
        client_info.title = config.client_title.clone();
        let mut capabilities = InitializeCapabilities::new().experimental_api(config.experimental_api);
        if config.request_attestation {
            capabilities = capabilities.request_attestation(true);
        }
        if !config.opt_out_notifications.is_empty() {
            capabilities = capabilities.opt_out_notification_methods(config.opt_out_notifications.clone());
        }
        let params = Initialize::new(client_info).capabilities(capabilities);
        let within = (config.timeouts.initialize, config.timeouts.initialize);
        let entered = self.requests.enter(now, "initialize".into(), &params, Purpose::Initialize, Lane::Urgent, within);
        if let Err(fault) = entered {
            self.drain(now, DisconnectReason::Protocol(alloc::format!("initialize cannot be encoded: {fault:?}")));
            self.finish_link();
        }
    }

    pub(super) fn handle_initialized(&mut self, now: Time, outcome: Result<Json, Fault>) {
        let reason = match outcome {
            Ok(json) => match json.decode::<InitializeResponse>() {
                Ok(response) => {
                    self.server = Some(ServerInfo::new(response));
                    if self.link.is_over() {
                        // The answer was still in the pipe of a server that is gone: there is no way back.
                        return;
                    }
                    self.link = Link::Ready;
                    self.refuse_what_is_too_new(now);
                    self.push_answer(br#"{"method":"initialized"}"#.to_vec());
                    self.events.push_back(Event::Ready);
                    return;
                }
                Err(_) => DisconnectReason::Protocol("the result of `initialize` is no object".into()),
            },
            Err(Fault::Rpc(error)) => DisconnectReason::InitializeRefused(error),
            Err(Fault::TimedOut { elapsed, .. }) => DisconnectReason::InitializeTimedOut { elapsed },
            // The connection is ending already.
            Err(Fault::Disconnected { .. }) => return,
            Err(fault) => DisconnectReason::Protocol(alloc::format!("`initialize` failed: {fault:?}")),
        };
        let at_once = matches!(reason, DisconnectReason::InitializeTimedOut { .. });
        self.drain(now, reason);
        if at_once {
            // Who waits was promised an answer by now.
            self.finish_link();
        }
    }

    /// Begins to end, unless that has begun: the first reason stays.
    pub(super) fn drain(&mut self, now: Time, reason: DisconnectReason) {
        if self.link.is_over() {
            return;
        }
        let until = now + self.config.timeouts.drain;
        self.link = Link::Draining(Box::new(Draining {
            reason,
            until,
            eof: false,
            exit: None,
            evidence: self.evidence.take(),
        }));
        self.answers.clear();
        self.answers_bytes = 0;
    }

    pub(super) fn note_eof(&mut self) {
        if let Link::Draining(draining) = &mut self.link {
            draining.eof = true;
        }
        self.finish_link_if_complete();
    }

    pub(super) fn note_exit(&mut self, report: ExitReport) {
        if let Link::Draining(draining) = &mut self.link {
            draining.exit = Some(report);
        }
        self.finish_link_if_complete();
    }

    pub(super) fn note_evidence(&mut self, report: ExitReport) {
        match &mut self.link {
            Link::Draining(draining) => draining.evidence = Some(report),
            Link::Connecting | Link::Ready => self.evidence = Some(report),
            Link::Closed(_) => {}
        }
    }

    pub(super) fn handle_link_timeout(&mut self, now: Time) {
        if self.link.drains_until().is_some_and(|until| until <= now) {
            self.finish_link();
        }
    }

    fn finish_link_if_complete(&mut self) {
        if let Link::Draining(draining) = &self.link {
            if draining.eof && (draining.exit.is_some() || !self.config.expects_exit) {
                self.finish_link();
            }
        }
    }

    /// Ends: everybody who waits gets the outcome, and then everybody is told.
    pub(super) fn finish_link(&mut self) {
        let Link::Draining(draining) = &mut self.link else { return };
        let until = draining.until;
        let exit = draining.exit.take().or(draining.evidence.take());
        let cause = Disconnect::new(draining.reason.clone(), exit);
        self.link = Link::Closed(cause.clone());
        self.fail_everything(until, &cause);
        let events = &mut self.events;
        let mut tell = |key| events.push_back(Event::Readable(key));
        self.log.finish(&mut tell);
        for key in self.subscriptions.keys() {
            tell(*key);
        }
        self.threads.retain(|_, entry| {
            // Its consumers were told above, in the order of the subscriptions.
            entry.log.finish(|_| {});
            entry.in_doubt = false;
            !entry.is_idle()
        });
        self.time_wanted.clear();
        self.unchecked.clear();
        self.events.push_back(Event::Closed);
    }

    fn fail_everything(&mut self, now: Time, cause: &Disconnect) {
        for key in self.requests.open() {
            let delivery = self.requests.delivery(key);
            self.settle_request(now, key, Err(Fault::Disconnected { delivery, cause: cause.clone() }));
        }
        self.lose_asks(cause);
        self.lose_logins(cause);
        self.lose_turns(cause);
    }
}

impl Fault {
    /// The fault of a call that came after the end.
    pub(crate) fn disconnected_before(cause: Disconnect) -> Self {
        Self::Disconnected { delivery: Delivery::NotSent, cause }
    }
}
