//! A scripted model: a fake of the Responses API on 127.0.0.1, so that a real server can be tested without a real
//! model.
//!
//! It owns one listener, its threads, and a script. It answers `POST <base url>/responses` with the events that the
//! script says, and everything else with 404 at once. It never thinks, never calls anything outside, and never checks
//! what the server sends beyond "is it JSON": requests are kept for the test to look at.
//!
//! # Which reply
//!
//! The first of these that has one:
//!
//! 1. [`ScriptedModel::push_for`]: the oldest reply for a key that the last text of the user contains.
//!    Deterministic for concurrent threads, since each thread has its own words;
//! 2. [`ScriptedModel::on`]: rules, oldest first;
//! 3. [`ScriptedModel::push`]: the queue;
//! 4. the default, "Done." unless [`ScriptedModel::set_default`] changed it.
//!
//! # An exchange
//!
//! ```
//! use std::io::{Read, Write};
//! use std::net::TcpStream;
//! use std::time::Duration;
//! use turnwire_testkit::model::{Reply, ScriptedModel};
//!
//! let model = ScriptedModel::start()?;
//! model.push(Reply::text("Hello."));
//!
//! let mut socket = TcpStream::connect(model.address())?;
//! let body = r#"{"input":[{"type":"message","role":"user","content":[{"type":"input_text","text":"Hi"}]}]}"#;
//! write!(socket, "POST /v1/responses HTTP/1.1\r\ncontent-length: {}\r\n\r\n{body}", body.len())?;
//! let mut answer = String::new();
//! socket.read_to_string(&mut answer)?;
//! assert!(answer.contains(r#""delta":"Hello.""#));
//!
//! let requests = model.wait_for_requests(1, Duration::from_secs(5)).expect("one request came");
//! assert_eq!(requests[0].texts(), ["Hi"]);
//! # std::io::Result::Ok(())
//! ```
//!
//! # Bounds
//!
//! 256 connections at once, requests of 64 MiB, gates of [`GATE_BOUND`] each. What went wrong on the way (a gate that
//! nobody opened, a request that is no JSON, a rule that panicked) is in [`ScriptedModel::faults`]. Dropping the model
//! cuts its open streams and ends all its threads.

mod gate;
mod http;
mod play;
mod reply;
mod request;

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

pub use gate::{GATE_BOUND, Gate};
pub use reply::{CHUNK_CHARS, ExecCommand, Message, Phase, Reply, Usage};
pub use request::ModelRequest;

use http::{Incoming, ReadError};
use play::Player;

/// Connections served at once; one more is answered with 503.
const MAX_CONNECTIONS: usize = 256;
/// How long stopping tries to wake the listener.
const STOP_BOUND: Duration = Duration::from_secs(5);

/// How the answer to one request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// The whole reply was written.
    Answered,
    /// The stream was cut where the script said so.
    Cut,
    /// Nobody opened a gate within its bound; the stream was cut.
    GateExpired,
    /// The peer closed the connection first, as a server does when its turn is interrupted.
    PeerGone,
    /// The reply is being written.
    Running,
    /// The model was stopped first.
    Stopped,
}

/// A scripted (fake) model on 127.0.0.1. See the [module](self).
pub struct ScriptedModel {
    shared: Arc<Shared>,
    address: SocketAddr,
    /// Set until [`ScriptedModel::stop`] or the drop takes it.
    listener: Option<JoinHandle<Vec<Connection>>>,
}

type Rule = Arc<dyn Fn(&ModelRequest) -> Option<Reply> + Send + Sync>;

struct Shared {
    stop: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    keyed: Vec<(String, VecDeque<Reply>)>,
    rules: Vec<Rule>,
    queue: VecDeque<Reply>,
    default: Reply,
    requests: Vec<ModelRequest>,
    /// One for each request, in the same order.
    outcomes: Vec<Outcome>,
    others: Vec<String>,
    faults: Vec<String>,
}

struct Connection {
    stream: TcpStream,
    thread: JoinHandle<()>,
}

impl ScriptedModel {
    /// Starts a model on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// If there is no socket or no thread to be had.
    pub fn start() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let state = State {
            keyed: Vec::new(),
            rules: Vec::new(),
            queue: VecDeque::new(),
            default: Reply::text("Done."),
            requests: Vec::new(),
            outcomes: Vec::new(),
            others: Vec::new(),
            faults: Vec::new(),
        };
        let shared =
            Arc::new(Shared { stop: AtomicBool::new(false), state: Mutex::new(state), changed: Condvar::new() });
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("scripted-model".to_owned())
            .spawn(move || accept_until_stopped(&of_thread, &listener))?;
        Ok(Self { shared, address, listener: Some(thread) })
    }

    /// Adds a reply to the queue: the next request that no key and no rule claims gets it.
    pub fn push(&self, reply: Reply) {
        self.state().queue.push_back(reply);
    }

    /// Adds a reply for requests whose last text of the user contains `key`. Replies of one key are used in order: a
    /// turn that calls a tool asks twice with the same last text. A steered turn asks with the steer's text last, so
    /// put the key there as well. Among keys that fit, the one that was added first is used.
    pub fn push_for(&self, key: impl Into<String>, reply: Reply) {
        let key = key.into();
        let mut state = self.state();
        if let Some((_, replies)) = state.keyed.iter_mut().find(|(known, _)| *known == key) {
            replies.push_back(reply);
        } else {
            state.keyed.push((key, VecDeque::from([reply])));
        }
    }

    /// Adds a rule. It may answer any number of requests, returns `None` for those it does not want, and may use this
    /// model (through its own reference), because no lock is held while it runs.
    pub fn on(&self, rule: impl Fn(&ModelRequest) -> Option<Reply> + Send + Sync + 'static) {
        self.state().rules.push(Arc::new(rule));
    }

    /// Replaces the reply for requests that nothing else claims.
    pub fn set_default(&self, reply: Reply) {
        self.state().default = reply;
    }

    /// Waits until `count` requests have come, and returns all that came by then; `Err` holds those that came within
    /// `timeout` if they are fewer.
    ///
    /// # Errors
    /// Fewer than `count` requests came in time.
    pub fn wait_for_requests(&self, count: usize, timeout: Duration) -> Result<Vec<ModelRequest>, Vec<ModelRequest>> {
        let state = self.wait(timeout, |state| state.requests.len() >= count);
        let requests = state.requests.clone();
        if requests.len() >= count { Ok(requests) } else { Err(requests) }
    }

    /// Waits until the answer to request `number` (from 0) has ended, and says how: [`Outcome::Running`] if it had not
    /// ended within `timeout`, `None` if the request never came.
    #[must_use]
    pub fn wait_for_outcome(&self, number: usize, timeout: Duration) -> Option<Outcome> {
        let has_ended = |state: &State| state.outcomes.get(number).is_some_and(|outcome| *outcome != Outcome::Running);
        self.wait(timeout, has_ended).outcomes.get(number).copied()
    }

    /// Ends the model: cuts open streams, ends all threads. Dropping does the same.
    pub fn stop(mut self) {
        self.stop_threads();
    }

    /// The address it listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What to give as the provider's `base_url`: `http://127.0.0.1:PORT/v1`.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// The model requests so far, oldest first.
    #[must_use]
    pub fn requests(&self) -> Vec<ModelRequest> {
        self.state().requests.clone()
    }

    /// Requests that were no model requests and were answered with 404: method and path, oldest first.
    #[must_use]
    pub fn other_requests(&self) -> Vec<String> {
        self.state().others.clone()
    }

    /// Replies pushed but not yet used. Rules and the default do not count.
    #[must_use]
    pub fn unused_replies(&self) -> usize {
        let state = self.state();
        state.queue.len() + state.keyed.iter().map(|(_, replies)| replies.len()).sum::<usize>()
    }

    /// What went wrong with the script or with a request, oldest first. Empty in a good test.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        self.state().faults.clone()
    }

    fn wait(&self, timeout: Duration, until: impl Fn(&State) -> bool) -> MutexGuard<'_, State> {
        let deadline = Instant::now() + timeout;
        let mut state = self.state();
        while !until(&state) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state = self.shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        state
    }

    fn stop_threads(&mut self) {
        let Some(listener) = self.listener.take() else { return };
        self.shared.stop.store(true, Ordering::Release);
        // std has no way to end a blocking accept: a connection of our own does it. Out of sockets, try again for a
        // while.
        let deadline = Instant::now() + STOP_BOUND;
        while !listener.is_finished() && Instant::now() < deadline {
            drop(TcpStream::connect_timeout(&self.address, Duration::from_millis(200)));
            std::thread::sleep(Duration::from_millis(1));
        }
        if !listener.is_finished() {
            // Better a thread left over than a test that hangs; the flag ends it at the next connection.
            return;
        }
        for connection in listener.join().unwrap_or_default() {
            drop(connection.stream.shutdown(Shutdown::Both));
            drop(connection.thread.join());
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state()
    }
}

impl Drop for ScriptedModel {
    fn drop(&mut self) {
        self.stop_threads();
    }
}

impl fmt::Debug for ScriptedModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("ScriptedModel")
            .field("address", &self.address)
            .field("requests", &state.requests.len())
            .field("faults", &state.faults.len())
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fault(&self, text: String) {
        self.state().faults.push(text);
    }

    /// Notes the request and finds its reply. `None` if a rule panicked.
    fn reply_to(&self, headers: Vec<(String, String)>, body: Value) -> (ModelRequest, Option<Reply>) {
        let mut state = self.state();
        let request = ModelRequest::new(state.requests.len(), headers, body);
        state.requests.push(request.clone());
        state.outcomes.push(Outcome::Running);
        self.changed.notify_all();
        let last = request.last_text();
        let fits = |(key, replies): &&mut (String, VecDeque<Reply>)| !replies.is_empty() && last.contains(key.as_str());
        if let Some(reply) = state.keyed.iter_mut().find(fits).and_then(|(_, replies)| replies.pop_front()) {
            return (request, Some(reply));
        }
        let rules = state.rules.clone();
        drop(state);
        for rule in rules {
            match catch_unwind(AssertUnwindSafe(|| rule(&request))) {
                Ok(None) => {}
                Ok(Some(reply)) => return (request, Some(reply)),
                Err(_) => {
                    self.fault(format!("a rule panicked at request {}", request.number()));
                    return (request, None);
                }
            }
        }
        let mut state = self.state();
        let reply = state.queue.pop_front().unwrap_or_else(|| state.default.clone());
        drop(state);
        (request, Some(reply))
    }

    fn ended(&self, number: usize, outcome: Outcome) {
        let mut state = self.state();
        if let Some(slot) = state.outcomes.get_mut(number) {
            *slot = outcome;
        }
        if outcome == Outcome::GateExpired {
            state.faults.push(format!("nobody opened the gate in the answer to request {number}"));
        }
        self.changed.notify_all();
    }
}

/// Returns the connections that may still be open.
fn accept_until_stopped(shared: &Arc<Shared>, listener: &TcpListener) -> Vec<Connection> {
    let mut connections: Vec<Connection> = Vec::new();
    loop {
        let accepted = listener.accept();
        if shared.stop.load(Ordering::Acquire) {
            return connections;
        }
        connections.retain(|connection| !connection.thread.is_finished());
        let started = accepted.and_then(|(stream, _)| {
            stream.set_nodelay(true)?;
            let (mut ours, of_thread) = (stream.try_clone()?, Arc::clone(shared));
            if connections.len() >= MAX_CONNECTIONS {
                http::write_response(&mut ours, 503, &[], r#"{"error":{"message":"too many connections"}}"#)?;
                return Err(io::Error::other("too many connections at once"));
            }
            let thread = std::thread::Builder::new()
                .name("scripted-model-connection".to_owned())
                .spawn(move || serve(&of_thread, &mut ours))?;
            Ok(Connection { stream, thread })
        });
        match started {
            Ok(connection) => connections.push(connection),
            Err(error) => {
                shared.fault(format!("a connection was not served: {error}"));
                // An accept that keeps failing must not spin.
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

/// One connection from its request to its close.
fn serve(shared: &Shared, stream: &mut TcpStream) {
    match http::read_request(stream) {
        Ok(incoming) => answer(shared, stream, incoming),
        Err(ReadError::Closed) => {}
        Err(ReadError::Refused(status, why)) => {
            shared.fault(format!("a request was refused with {status}: {why}"));
            drop(http::write_response(stream, status, &[], &error_body(why)));
        }
        Err(ReadError::Io(error)) if shared.stop.load(Ordering::Acquire) => drop(error),
        Err(ReadError::Io(error)) => shared.fault(format!("a request could not be read: {error}")),
    }
    // The listener keeps a second handle of this socket, so dropping ours would not close it.
    drop(stream.shutdown(Shutdown::Both));
}

fn answer(shared: &Shared, stream: &mut TcpStream, incoming: Incoming) {
    let path = incoming.path.split('?').next().unwrap_or_default();
    if incoming.method != "POST" || !path.ends_with("/responses") {
        shared.state().others.push(format!("{} {}", incoming.method, incoming.path));
        drop(http::write_response(stream, 404, &[], &error_body("the scripted model has only POST /responses")));
        return;
    }
    let Ok(body) = serde_json::from_slice::<Value>(&incoming.body) else {
        shared.fault("a model request is not JSON".to_owned());
        drop(http::write_response(stream, 400, &[], &error_body("the body is not JSON")));
        return;
    };
    let (request, reply) = shared.reply_to(incoming.headers, body);
    let number = request.number();
    let reply = reply.unwrap_or_else(|| Reply::http_error(400, "scripted_model", "a rule of the script panicked"));
    let outcome = Player { stream, stop: &shared.stop, number }.play(&reply);
    shared.ended(number, outcome);
}

fn error_body(message: &str) -> String {
    serde_json::json!({"error": {"message": message}}).to_string()
}
