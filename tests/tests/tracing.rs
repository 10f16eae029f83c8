//! Spans and events: only with the feature `tracing`, and a test program of its own because there is one subscriber for all.
//!
//! `cargo test -p turnwire-testkit --features tracing --test tracing`

#[allow(dead_code)]
mod marks;

use marks::{MARK, Marks, marked, recordings};
use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tracing::{
    Event, Id, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Record},
};
use turnwire_blocking::{Config, Recorder, protocol::ThreadStart};
use turnwire_core::record::Step;
use turnwire_testkit::{
    recorded::Tape,
    scripted::{Rule, Script, TurnPlan, serve_duplex},
};

#[derive(Clone, Debug, Default)]
struct Seen {
    name: String,
    parent: Option<u64>,
    fields: BTreeMap<String, String>,
    is_closed: bool,
}

#[derive(Default)]
struct Log {
    spans: BTreeMap<u64, Seen>,
    events: Vec<Seen>,
    follows: Vec<(u64, u64)>,
}

/// Notes everything.
#[derive(Clone, Default)]
struct Notes {
    log: Arc<Mutex<Log>>,
    next: Arc<AtomicU64>,
}

struct Fields<'a>(&'a mut BTreeMap<String, String>);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}").trim_matches('"').to_owned());
    }
}

impl Subscriber for Notes {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "turnwire"
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let id = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        let mut seen = Seen { name: span.metadata().name().to_owned(), ..Seen::default() };
        seen.parent = span.parent().map(Id::into_u64);
        span.record(&mut Fields(&mut seen.fields));
        self.log.lock().expect("no poison").spans.insert(id, seen);
        Id::from_u64(id)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        let mut log = self.log.lock().expect("no poison");
        values.record(&mut Fields(&mut log.spans.get_mut(&span.into_u64()).expect("a span").fields));
    }

    fn record_follows_from(&self, span: &Id, follows: &Id) {
        self.log.lock().expect("no poison").follows.push((span.into_u64(), follows.into_u64()));
    }

    fn event(&self, event: &Event<'_>) {
        let mut seen = Seen { name: event.metadata().level().to_string(), ..Seen::default() };
        seen.parent = event.parent().map(Id::into_u64);
        event.record(&mut Fields(&mut seen.fields));
        self.log.lock().expect("no poison").events.push(seen);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}

    fn try_close(&self, id: Id) -> bool {
        self.log.lock().expect("no poison").spans.get_mut(&id.into_u64()).expect("a span").is_closed = true;
        true
    }
}

/// One test, since there is one subscriber.
#[test]
fn ob_01_connections_threads_turns_and_requests_have_spans_with_ids_and_without_texts() {
    let notes = Notes::default();
    tracing::subscriber::set_global_default(notes.clone()).expect("the only subscriber");

    // Everything that servers were ever seen to say, marked.
    let mut listing = Rule::on("model/list").raw_line(format!("banner {MARK}")).raw_line(format!("{{\"broken {MARK}"));
    for (_, recording) in recordings() {
        for record in marked(&recording, Marks::Texts).records {
            let Step::Received(line) = record.step else { continue };
            // Answers would answer what this test asks.
            if line.text().contains("\"method\"") {
                listing = listing.raw_line(line.text().into_owned());
            }
        }
    }
    let script = Script::new()
        .rule(listing.default_reply())
        .rule(Rule::on("thread/read").reply_error(-32600, format!("no such thread: {MARK}")))
        .turn(TurnPlan::new().text(format!("The password is {MARK}.")));
    let tape = Tape::new();
    let recorder = Recorder::to_writer(tape.clone());
    let mut config = Config::default();
    config.recorder = Some(recorder.clone());
    let (reader, writer, _server) = serve_duplex(script);
    let codex = turnwire_blocking::connect_with(reader, writer, config).expect("connects");
    codex.models().expect("answered");
    codex.request_raw("thread/read", serde_json::json!({"threadId": MARK})).expect_err("refused");
    codex.request_raw(format!("my/{MARK}"), serde_json::json!({})).expect_err("unknown");
    let thread = codex.thread_start(ThreadStart::new().cwd(format!("/home/{MARK}"))).expect("a thread");
    let result = thread.run(format!("My password is {MARK}.")).expect("completed");
    let thread_id = thread.id().to_string();
    codex.close();
    drop((thread, codex));
    assert!(recorder.wait(Duration::from_secs(30)));
    assert!(tape.text().len() > 100_000 && !tape.text().contains(MARK), "nor is it in the recording");

    // The driver's thread lets go of the connection when it ends.
    let start = std::time::Instant::now();
    while notes.log.lock().expect("no poison").spans.values().any(|span| !span.is_closed) {
        assert!(start.elapsed() < Duration::from_secs(30), "a span is left open");
        std::thread::sleep(Duration::from_millis(5));
    }
    let log = notes.log.lock().expect("no poison");
    let all = format!("{:?} {:?}", log.spans, log.events);
    assert!(!all.contains(MARK), "{all}");

    let named = |name: &str| log.spans.iter().filter(|(_, span)| span.name == name).collect::<Vec<_>>();
    let connections = named("turnwire.connection");
    let [(connection, span)] = connections.as_slice() else { panic!("{connections:?}") };
    assert_eq!(span.fields["server"], "0.163.0");
    let threads = named("turnwire.thread");
    assert!(threads.iter().all(|(_, span)| span.fields["thread"] == thread_id && span.parent == Some(**connection)));
    assert_eq!(threads.len(), 1);
    let turns = named("turnwire.turn");
    let [(_, turn)] = turns.as_slice() else { panic!("{turns:?}") };
    assert_eq!(turn.fields["thread"], thread_id);
    assert_eq!(turn.fields["turn"], result.turn_id.expect("named").to_string());
    assert_eq!((turn.fields["state"].as_str(), turn.parent), ("Completed", Some(**connection)));
    let requests = named("turnwire.request");
    let requests: Vec<(&str, &str)> =
        requests.iter().map(|(_, span)| (span.fields["method"].as_str(), span.fields["outcome"].as_str())).collect();
    assert_eq!(
        requests,
        [("model/list", "ok"), ("thread/read", "refused"), ("unknown", "refused"), ("thread/start", "ok")]
    );
    let said: Vec<&str> = log.events.iter().map(|event| event.fields["message"].as_str()).collect();
    assert!(said.contains(&"ready") && said.contains(&"closed"), "{said:?}");
    let kinds: Vec<&str> = log.events.iter().filter_map(|event| event.fields.get("kind").map(String::as_str)).collect();
    assert!(kinds.contains(&"Noise") && kinds.contains(&"Malformed"), "{kinds:?}");
    assert!(log.events.iter().all(|event| event.parent == Some(**connection)));
}
