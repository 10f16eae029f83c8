//! Recorded talks, cut off anywhere: what each wait of the client's then ends with.
//!
//! A recording is turned into steps: what the client asks, and what the server says. The requests of the recorder become
//! requests of the client's own, so the ids in the answers are changed to those that the client gives.

#![allow(dead_code, reason = "each suite uses its part")]

use serde_json::Value;
use std::{collections::BTreeMap, fs, path::Path};
use turnwire_core::{
    connection::{Config, Connection, Scope, TurnOptions},
    error::{CallError, Fault, TurnError},
    launch::{ExitReport, ExitStatus},
    protocol::{TurnStart, UserInput},
    time::Time,
    turn::{Next, SubscriptionKey, TurnResult},
};

#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// The client makes a request; `id` is the one that it gets on the wire.
    Ask { method: String, params: Value, id: u64 },
    /// The server writes.
    Say(Vec<u8>),
}

pub(crate) struct Talk {
    pub(crate) name: String,
    pub(crate) steps: Vec<Step>,
}

impl Talk {
    /// How many bytes the server writes.
    pub(crate) fn len(&self) -> usize {
        self.says().map(<[u8]>::len).sum()
    }

    pub(crate) fn says(&self) -> impl Iterator<Item = &[u8]> {
        self.steps.iter().filter_map(|step| match step {
            Step::Say(bytes) => Some(&bytes[..]),
            Step::Ask { .. } => None,
        })
    }

    /// After how many bytes each line ends.
    pub(crate) fn edges(&self) -> Vec<usize> {
        let mut at = 0;
        let mut edges = Vec::new();
        for bytes in self.says() {
            at += bytes.len();
            edges.push(at);
        }
        edges
    }

    /// The steps up to a cut, the last one shortened.
    pub(crate) fn until(&self, cut: usize) -> impl Iterator<Item = (&Step, usize)> {
        let mut left = Some(cut);
        self.steps.iter().map_while(move |step| {
            let room = left?;
            match step {
                Step::Ask { .. } if room == 0 => {
                    left = None;
                    None
                }
                Step::Ask { .. } => Some((step, 0)),
                Step::Say(bytes) => {
                    let take = bytes.len().min(room);
                    left = if take < bytes.len() { None } else { Some(room - take) };
                    Some((step, take))
                }
            }
        })
    }
}

/// A configuration under which nothing is held back that the recorder had sent at once.
pub(crate) fn config() -> Config {
    let mut config = Config::default();
    config.limits.max_in_flight = 10_000;
    config.assume_version = Some("99.0.0".into());
    config
}

/// All recordings.
pub(crate) fn talks() -> Vec<Talk> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("transcripts");
    let mut paths: Vec<_> = fs::read_dir(folder).expect("recordings").map(|entry| entry.expect("one").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
    paths.sort();
    assert!(paths.len() >= 36, "the recordings are missing");
    paths.iter().map(|path| talk(path)).collect()
}

fn talk(path: &Path) -> Talk {
    let mut connection = Connection::new(Time::ZERO, config());
    let mut ids: BTreeMap<String, u64> = BTreeMap::new();
    let mut steps = Vec::new();
    let mut initialized = false;
    written(&mut connection);
    for (number, line) in fs::read_to_string(path).expect("a recording").lines().enumerate() {
        let line: Value = serde_json::from_str(line).expect("JSON");
        let text = line["line"].as_str().unwrap_or_default().to_owned();
        let said: Value = serde_json::from_str(&text).unwrap_or_default();
        match line["dir"].as_str() {
            Some("in") => {
                let (Some(method), Some(id)) = (said["method"].as_str(), said.get("id")) else { continue };
                if method == "initialize" {
                    if !std::mem::replace(&mut initialized, true) {
                        ids.insert(id.to_string(), 1);
                    }
                    continue;
                }
                if !connection.is_ready() {
                    continue;
                }
                let params = said["params"].clone();
                let asked = ask(&mut connection, method, &params);
                let Some(own) = asked.and(written(&mut connection)) else { continue };
                ids.insert(id.to_string(), own);
                steps.push(Step::Ask { method: method.into(), params, id: own });
            }
            Some("out") => {
                let is_answer = said.get("method").is_none() && said.get("id").is_some();
                let mut bytes = match said {
                    Value::Object(mut said) if is_answer => {
                        let own = ids.get(&said["id"].to_string()).copied();
                        said.insert("id".into(), own.unwrap_or(1_000_000 + number as u64).into());
                        Value::Object(said).to_string().into_bytes()
                    }
                    _ => text.into_bytes(),
                };
                bytes.push(b'\n');
                connection.handle_input(Time::ZERO, &bytes);
                steps.push(Step::Say(bytes));
            }
            _ => {}
        }
    }
    Talk { name: path.file_stem().expect("a name").to_string_lossy().into_owned(), steps }
}

/// Writes out what is to be sent, and returns the id of the last request in it.
fn written(connection: &mut Connection) -> Option<u64> {
    let mut bytes = Vec::new();
    while connection.poll_transmit(Time::ZERO, &mut bytes) {}
    let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let requests = lines.map(|line| serde_json::from_slice::<Value>(line).expect("JSON"));
    requests.filter(|line| line.get("method").is_some()).filter_map(|line| line["id"].as_u64()).next_back()
}

/// Something that the client waits for.
#[derive(Clone)]
enum Wait {
    Call(turnwire_core::connection::RequestKey),
    Turn(turnwire_core::turn::TurnKey),
}

fn ask(connection: &mut Connection, method: &str, params: &Value) -> Option<Wait> {
    match (method, params["threadId"].as_str()) {
        ("turn/start", Some(thread)) => {
            let params = TurnStart::new(thread, [UserInput::text("x")]);
            connection.start_turn(Time::ZERO, &params, &TurnOptions::default()).ok().map(Wait::Turn)
        }
        _ => {
            connection.request_raw(Time::ZERO, method.to_owned(), params).ok().map(|pending| Wait::Call(pending.key()))
        }
    }
}

pub(crate) fn of_call<T>(outcome: &Result<T, CallError>) -> String {
    match outcome {
        Ok(_) => "answered".into(),
        Err(error) => match &error.fault {
            Fault::Rpc(rpc) => format!("refused {}", rpc.code),
            Fault::Disconnected { delivery, .. } => format!("lost {delivery:?}"),
            fault => format!("{fault:?}"),
        },
    }
}

pub(crate) fn of_turn(outcome: &Result<TurnResult, TurnError>) -> String {
    let report = match outcome {
        Ok(result) => result,
        Err(TurnError::Start(error)) => return format!("not started: {}", of_call::<()>(&Err(error.clone()))),
        Err(error) => match error.report() {
            Some(report) => report,
            None => return error.to_string(),
        },
    };
    let answer = report.final_response.as_deref().map(str::len);
    format!("{:?}: {} items, {answer:?}, {:?}", report.status, report.items.len(), report.usage.is_some())
}

/// How the bytes come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pieces {
    Bytes,
    Lines,
}

/// A talk that is being played to a connection, and may be ended at any point, on a clone.
#[derive(Clone)]
struct Game<'a> {
    talk: &'a Talk,
    connection: Connection,
    everything: SubscriptionKey,
    waits: Vec<Wait>,
}

impl<'a> Game<'a> {
    fn new(talk: &'a Talk, expects_exit: bool) -> Self {
        let mut config = config();
        config.expects_exit = expects_exit;
        let mut connection = Connection::new(Time::ZERO, config);
        let everything = connection.subscribe(Scope::Connection);
        written(&mut connection);
        Self { talk, connection, everything, waits: Vec::new() }
    }

    fn ask(&mut self, method: &str, params: &Value, id: u64) {
        let wait = ask(&mut self.connection, method, params).expect("it was asked before");
        assert_eq!(written(&mut self.connection), Some(id), "{}: the same ids", self.talk.name);
        self.waits.push(wait);
    }

    fn say(&mut self, bytes: &[u8]) {
        self.connection.handle_input(Time::ZERO, bytes);
        while self.connection.poll_event().is_some() {}
        while let Next::Event(_) = self.connection.next_event(self.everything) {}
    }

    /// Ends it here and says what each wait ended with. Asserts that each did, and that nothing is left.
    fn end(mut self, cut: usize) -> Vec<String> {
        let (talk, connection) = (self.talk, &mut self.connection);
        let exit = || {
            let mut report = ExitReport::new(Some(ExitStatus::new(Some(0), None)));
            report.stderr_tail = "".into();
            report
        };
        if cut % 4 == 1 {
            connection.handle_exit(Time::ZERO, exit());
        }
        connection.handle_eof(Time::ZERO);
        if cut % 4 == 3 {
            connection.handle_exit(Time::ZERO, exit());
        }
        assert!(connection.closed().is_some(), "{} at {cut}: it is over", talk.name);
        let outcomes = self.waits.iter().map(|wait| match wait {
            Wait::Call(key) => {
                let outcome = connection.take_json(*key);
                of_call(&outcome.unwrap_or_else(|| panic!("{} at {cut}: a call has its outcome", talk.name)))
            }
            Wait::Turn(key) => {
                let report = connection.take_report(*key);
                let report = report.unwrap_or_else(|| panic!("{} at {cut}: a turn has its end", talk.name));
                connection.release_turn(*key);
                of_turn(&report.map_err(TurnError::Start).and_then(|report| report.into_result()))
            }
        });
        let outcomes = outcomes.collect();
        while !matches!(connection.next_event(self.everything), Next::Finished) {}
        connection.unsubscribe(self.everything);
        let counters = connection.counters();
        let left = (counters.requests, counters.turns, counters.threads, connection.poll_timeout());
        assert_eq!(left, (0, 0, 0, None), "{} at {cut}: {counters:?}", talk.name);
        outcomes
    }
}

/// Plays a talk up to a cut and ends it there, as [`Game::end`] says. At every second cut there is a process whose end is
/// told as well, in either order.
pub(crate) fn play(talk: &Talk, cut: usize, pieces: Pieces) -> Vec<String> {
    let mut game = Game::new(talk, cut % 2 == 1);
    for (step, take) in talk.until(cut) {
        match step {
            Step::Ask { method, params, id } => game.ask(method, params, *id),
            Step::Say(bytes) if pieces == Pieces::Bytes => bytes[..take].iter().for_each(|byte| game.say(&[*byte])),
            Step::Say(bytes) => game.say(&bytes[..take]),
        }
    }
    game.end(cut)
}

/// Plays a talk byte by byte, once, and ends a clone of it after each byte and each request that is `chosen` by its cut.
/// `seen` gets where that was and what the waits ended with.
pub(crate) fn end_everywhere(talk: &Talk, chosen: impl Fn(usize) -> bool, mut seen: impl FnMut(usize, Vec<String>)) {
    let mut games = [Game::new(talk, false), Game::new(talk, true)];
    let mut end = |games: &[Game<'_>; 2], cut: usize| {
        if chosen(cut) {
            seen(cut, games[cut % 2].clone().end(cut));
        }
    };
    let mut cut = 0;
    end(&games, cut);
    for step in &talk.steps {
        match step {
            Step::Ask { method, params, id } => {
                games.iter_mut().for_each(|game| game.ask(method, params, *id));
                end(&games, cut);
            }
            Step::Say(bytes) => {
                for byte in bytes {
                    games.iter_mut().for_each(|game| game.say(&[*byte]));
                    cut += 1;
                    end(&games, cut);
                }
            }
        }
    }
}

/// Numbers from a seed.
pub(crate) fn numbers(mut seed: u64) -> impl FnMut(usize) -> usize {
    move |below| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(seed >> 33).unwrap_or(0) % below.max(1)
    }
}

/// Whether the long form was asked for.
pub(crate) fn every() -> bool {
    std::env::var_os("TURNWIRE_CUTS").is_some_and(|value| value == "every")
}
