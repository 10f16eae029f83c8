// Scenarios against the scripted server, a fake: recordings, replays, and looking on. Included once for each runtime.

use crate::support::{self, TypedEvents, scripted};
use rt::{
    core::{
        client::Sink,
        record::{Header, Record, Recording, Step},
    },
    protocol::ThreadStart,
};
use std::{
    io,
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};
use turnwire_testkit::{
    recorded::{Tape, misfits},
    scripted::{Script, TurnPlan},
};

fn recorded(tape: &Tape) -> (rt::Config, rt::Recorder) {
    let recorder = rt::Recorder::to_writer(tape.clone());
    let mut config = rt::Config::default();
    config.limits.merge_after = None;
    config.recorder = Some(recorder.clone());
    (config, recorder)
}

fn script() -> Script {
    Script::new()
        .turn(TurnPlan::when("remove").command("rm -rf hunter2", "gone", 0).with_approval().text("I was not allowed to."))
        .turn(TurnPlan::when("think").reasoning("Let me see.").text("Ünïcode ✓ 你好 🎉 in several pieces."))
}

scenario! {
    fn ob_03_a_recorder_writes_both_directions_numbered_timed_and_redacted_by_default() {
        let server = scripted(&script());
        let tape = Tape::new();
        let (config, recorder) = recorded(&tape);
        let codex = wait!(rt::spawn_with(&server.command(), config)).expect("connects");
        let thread = wait!(codex.thread_start(ThreadStart::new().cwd("/home/hunter2"))).expect("a thread");
        wait!(thread.run("Please remove hunter2.")).expect("completed");
        wait!(codex.close());
        assert!(recorder.wait(support::PATIENCE) && recorder.failure().is_none());
        let text = tape.text();
        for secret in ["hunter2", "Please", "allowed", "rm -rf"] {
            assert!(!text.contains(secret), "{secret}");
        }
        let recording = tape.recording().expect("a recording");
        assert!(recording.header.redacted && recording.header.process == Some(true));
        assert_eq!(recording.server_version().as_deref(), Some("0.163.0"));
        let numbers: Vec<u64> = recording.records.iter().map(|record| record.number).collect();
        assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
        assert!(recording.records.windows(2).all(|pair| pair[0].at <= pair[1].at));
        let has = |method: &str, sent: bool| recording.records.iter().any(|record| match &record.step {
            Step::Sent(line) => sent && line.text().contains(method),
            Step::Received(line) => !sent && line.text().contains(method),
            _ => false,
        });
        assert!(has("\"turn/start\"", true) && has("\"turn/completed\"", false) && has("\"decline\"", true));
        let last = recording.records.last().expect("records");
        assert!(matches!(last.step, Step::Exit(_) | Step::Eof), "{last:?}");
    }
}

scenario! {
    fn ob_03_two_sessions_with_one_recorder_are_recorded_one_after_the_other() {
        let server = scripted(&script());
        let tape = Tape::new();
        let (config, recorder) = recorded(&tape);
        let first = wait!(rt::spawn_with(&server.command(), config.clone())).expect("connects");
        let second = wait!(rt::spawn_with(&server.command(), config)).expect("connects");
        for _ in 0..20 {
            wait!(first.models()).expect("answered");
            wait!(second.models()).expect("answered");
        }
        wait!(first.close());
        wait!(second.close());
        assert!(recorder.wait(support::PATIENCE) && recorder.failure().is_none());
        let text = tape.text();
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect();
        let headers: Vec<usize> = (0..lines.len()).filter(|n| lines[*n].get("n").is_none()).collect();
        assert_eq!(headers.len(), 2, "{text}");
        for part in [&lines[headers[0] + 1..headers[1]], &lines[headers[1] + 1..]] {
            let numbers: Vec<u64> = part.iter().map(|line| line["n"].as_u64().expect("a number")).collect();
            assert_eq!(numbers, (1..=part.len() as u64).collect::<Vec<_>>());
            assert!(part.len() >= 44, "{}", part.len());
        }
    }
}

scenario! {
    fn ob_03_the_recording_of_a_session_whose_server_never_comes_ends_with_it() {
        let tape = Tape::new();
        let recorder = rt::Recorder::to_writer(tape.clone());
        let codex = rt::lazy(&rt::Command::new().program("/nowhere/codex"), rt::Config::default());
        codex.record(&recorder);
        assert!(wait!(codex.ready()).is_err());
        assert!(recorder.wait(support::PATIENCE), "nobody has told it of the end");
        wait!(codex.close());
    }
}

scenario! {
    fn ob_04_a_recorded_session_replays_to_the_same_typed_events_on_the_machine_and_as_a_peer() {
        let server = scripted(&script());
        let tape = Tape::new();
        let (mut config, recorder) = recorded(&tape);
        let recorder = recorder.unredacted();
        config.recorder = Some(recorder.clone());
        let codex = wait!(rt::spawn_with(&server.command(), config)).expect("connects");
        let mut seen = TypedEvents::default();
        for prompt in ["Please remove it.", "Please think."] {
            let thread = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
            let turn = wait!(thread.turn(prompt)).expect("a turn");
            while let Some(event) = wait!(turn.next()) {
                seen.live(&event);
            }
            seen.over(&wait!(turn.result()));
        }
        wait!(codex.close());
        assert!(recorder.wait(support::PATIENCE));
        drop(server);
        let recording = tape.recording().expect("a recording");
        assert!(!recording.header.redacted);
        assert_eq!(misfits(&recording), [], "the fake stays within the protocol");
        seen.assert_replayed(&recording);

        // Again, with the recording in the server's place: no process, no network.
        let (codex, replaying) = wait!(connect_to_recording(recording)).expect("connects");
        let mut again = TypedEvents::default();
        for prompt in ["Please remove it.", "Please think."] {
            let thread = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
            let turn = wait!(thread.turn(prompt)).expect("a turn");
            while let Some(event) = wait!(turn.next()) {
                again.live(&event);
            }
            again.over(&wait!(turn.result()));
        }
        wait!(codex.close());
        assert!(replaying.wait(support::PATIENCE));
        assert_eq!(replaying.divergences(), []);
        assert_eq!(again, seen);
    }
}

scenario! {
    fn ob_04_a_program_that_says_something_else_is_told_at_which_record() {
        let server = scripted(&script());
        let tape = Tape::new();
        let (mut config, recorder) = recorded(&tape);
        config.recorder = Some(recorder.clone().unredacted());
        let codex = wait!(rt::spawn_with(&server.command(), config)).expect("connects");
        let thread = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
        wait!(thread.run("Please think.")).expect("completed");
        wait!(codex.close());
        assert!(recorder.wait(support::PATIENCE));
        let recording = tape.recording().expect("a recording");
        let starts = |record: &&Record| matches!(&record.step, Step::Sent(line) if line.text().contains("turn/start"));
        let number = recording.records.iter().find(starts).expect("a turn is started").number;

        let (codex, replaying) = wait!(connect_to_recording(recording)).expect("connects");
        let refused = wait!(codex.models()).expect_err("nobody recorded it");
        assert_eq!(refused.rpc().map(|rpc| rpc.message.as_str()), Some("this is not in the recording"));
        let thread = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
        wait!(thread.run("Please think again.")).expect("it goes on all the same");
        wait!(codex.close());
        assert!(replaying.wait(support::PATIENCE));
        let found = replaying.divergences();
        let [unknown, other] = found.as_slice() else { panic!("{found:?}") };
        assert!(unknown.expected.is_none() && unknown.to_string().contains("`model/list`"), "{unknown}");
        assert_eq!((other.number, other.path.as_str()), (number, "/params/input/0/text"));
    }
}

/// A sink that takes nothing until it is let go.
struct Held {
    is_free: Arc<(Mutex<bool>, Condvar)>,
    taken: Arc<Mutex<usize>>,
}

impl Sink for Held {
    fn begin(&mut self, _: &Header) -> io::Result<()> {
        Ok(())
    }

    fn record(&mut self, _: &Record) -> io::Result<()> {
        let (is_free, changed) = &*self.is_free;
        drop(changed.wait_while(is_free.lock().expect("no poison"), |is_free| !*is_free).expect("no poison"));
        *self.taken.lock().expect("no poison") += 1;
        Ok(())
    }
}

scenario! {
    fn ob_03_a_sink_that_blocks_holds_nobody_up() {
        let is_free = Arc::new((Mutex::new(false), Condvar::new()));
        let taken = Arc::new(Mutex::new(0));
        let recorder = rt::Recorder::new(Held { is_free: Arc::clone(&is_free), taken: Arc::clone(&taken) });
        let mut config = rt::Config::default();
        config.recorder = Some(recorder.clone());
        let server = scripted(&script());
        let codex = wait!(rt::spawn_with(&server.command(), config)).expect("connects");
        let thread = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
        wait!(thread.run("Please think.")).expect("completed");
        wait!(codex.close());
        assert_eq!(*taken.lock().expect("no poison"), 0);
        assert!(!recorder.wait(Duration::ZERO), "nothing is written yet");
        *is_free.0.lock().expect("no poison") = true;
        is_free.1.notify_all();
        assert!(recorder.wait(support::PATIENCE));
        assert!(*taken.lock().expect("no poison") > 10, "and nothing was lost");
        assert_eq!(codex.counters().tap_lost, 0);
    }
}

/// A sink that is full from the second record on.
struct Full(usize);

impl Sink for Full {
    fn begin(&mut self, _: &Header) -> io::Result<()> {
        Ok(())
    }

    fn record(&mut self, _: &Record) -> io::Result<()> {
        self.0 += 1;
        if self.0 > 1 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

scenario! {
    fn ob_03_a_sink_that_fails_ends_its_recording_and_nothing_else() {
        let recorder = rt::Recorder::new(Full(0));
        let mut config = rt::Config::default();
        config.recorder = Some(recorder.clone());
        let server = scripted(&script());
        let codex = wait!(rt::spawn_with(&server.command(), config)).expect("connects");
        wait!(codex.models()).expect("answered");
        assert!(recorder.wait(support::PATIENCE));
        assert_eq!(recorder.failure().map(|error| error.kind()), Some(io::ErrorKind::StorageFull));
        wait!(codex.models()).expect("answered still");
        wait!(codex.close());
    }
}

/// A sink that panics.
struct Panicky;

impl Sink for Panicky {
    fn begin(&mut self, _: &Header) -> io::Result<()> {
        panic!("this panic is the test's")
    }

    fn record(&mut self, _: &Record) -> io::Result<()> {
        Ok(())
    }
}

scenario! {
    fn ob_03_a_sink_that_panics_has_failed_and_whoever_waits_without_end_hears_of_it() {
        let recorder = rt::Recorder::new(Panicky);
        let mut config = rt::Config::default();
        config.recorder = Some(recorder.clone());
        let server = scripted(&script());
        let codex = wait!(rt::spawn_with(&server.command(), config)).expect("connects");
        wait!(codex.models()).expect("answered");
        assert!(recorder.wait(std::time::Duration::MAX));
        assert!(recorder.failure().is_some_and(|error| error.to_string().contains("panicked")));
        wait!(codex.models()).expect("answered still");
        wait!(codex.close());
    }
}

scenario! {
    fn ob_03_a_recording_may_begin_later() {
        let server = scripted(&script());
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let tape = Tape::new();
        let recorder = rt::Recorder::to_writer(tape.clone());
        codex.record(&recorder);
        codex.record(&rt::Recorder::to_writer(Tape::new()));
        let thread = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
        wait!(thread.run("Please think.")).expect("completed");
        wait!(codex.close());
        assert!(recorder.wait(support::PATIENCE));
        let recording: Recording = tape.recording().expect("a recording");
        assert!(!tape.text().contains("\\\"initialize\\\""));
        let mut replay = rt::core::record::Replay::new(&recording);
        let ends = replay.by_ref().filter(|replayed| {
            matches!(&replayed.event, rt::core::record::ReplayedEvent::TurnOver { result, .. } if result.is_ok())
        });
        assert_eq!(ends.count(), 1);
        assert_eq!(replay.divergences(), []);
    }
}

scenario! {
    fn ob_02_requests_carry_a_trace_context_only_where_the_configuration_has_a_source() {
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        for is_traced in [false, true] {
            let server = scripted(&Script::new().turn(TurnPlan::new().hold()));
            let mut config = rt::Config::default();
            if is_traced {
                config.trace_source = Some(rt::TraceSource::new(move || Some(rt::TraceContext::new(parent))));
            }
            let codex = wait!(rt::spawn_with(&server.command(), config)).expect("connects");
            wait!(codex.models()).expect("answered");
            let thread = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
            let turn = wait!(thread.turn("Hello")).expect("a turn");
            wait!(turn.steer("And more.")).expect("taken");
            wait!(turn.result()).expect("completed");
            wait!(codex.close());
            let received = server.received();
            let traces: Vec<_> = received
                .iter()
                .filter(|line| line["method"] != "initialize" && line["method"].is_string() && !line["id"].is_null())
                .map(|line| (line["method"].as_str().unwrap_or_default().to_owned(), line["trace"]["traceparent"].clone()))
                .collect();
            let methods: Vec<&str> = traces.iter().map(|(method, _)| method.as_str()).collect();
            assert_eq!(methods, ["model/list", "thread/start", "turn/start", "turn/steer"]);
            for (method, trace) in &traces {
                assert_eq!(trace.as_str(), is_traced.then_some(parent), "{method}");
            }
            assert!(received.iter().all(|line| is_traced || line.get("trace").is_none()));
        }
    }
}

scenario! {
    fn ob_08_the_counters_can_be_read_while_the_session_runs() {
        let server = scripted(&Script::new().turn(TurnPlan::new().hold()));
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let thread = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
        let turn = wait!(thread.turn("Hello")).expect("a turn");
        let counters = codex.counters();
        assert_eq!((counters.pending, counters.queued, counters.turns), (0, 0, 1), "{counters:?}");
        assert!(counters.lines > 3 && counters.bytes > 100, "{counters:?}");
        wait!(turn.interrupt()).expect("taken");
        drop(wait!(turn.result()));
        wait!(codex.close());
        assert_eq!((codex.counters().requests, codex.counters().tap_lost), (0, 0));
    }
}

scenario! {
    fn ob_09_the_phases_of_the_start_are_timed() {
        let slow = turnwire_testkit::scripted::Rule::on("initialize").delay(200).default_reply();
        let server = scripted(&Script::new().rule(slow));
        let begun = std::time::Instant::now();
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let all = begun.elapsed();
        let timings = codex.timings();
        let (Some(resolve), Some(spawn), Some(initialize)) = (timings.resolve, timings.spawn, timings.initialize) else {
            panic!("{timings:?}")
        };
        assert!(initialize >= Duration::from_millis(190), "{timings:?}");
        assert!(spawn > Duration::ZERO && resolve < all && timings.total() <= all, "{timings:?} of {all:?}");
        wait!(codex.close());
        let codex = wait!(connect_in_memory(Script::new())).expect("connects");
        let timings = codex.timings();
        assert!(timings.resolve.is_none() && timings.spawn.is_none() && timings.initialize.is_some(), "{timings:?}");
        wait!(codex.close());
    }
}
