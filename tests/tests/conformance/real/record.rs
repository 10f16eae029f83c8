// Scenarios against the real server with a scripted model behind it: recordings and replays. Included once for each runtime.

use crate::support::{self, TypedEvents, real_server};
use serde_json::Value;
use turnwire_core::record::Step;
use turnwire_testkit::{
    model::{ExecCommand, Message, Phase, Reply},
    recorded::{Tape, misfits},
};

real_scenario! {
    fn ob_04_a_session_of_the_real_server_replays_to_the_same_typed_events() {
        let Some(server) = real_server("ob_04_a_session_of_the_real_server_replays_to_the_same_typed_events") else { return };
        let target = server.home.work().join("hunter2.txt");
        let command = format!("echo gotcha > {}", target.display());
        server.model.push(
            Reply::new()
                .message(Message::new("Let me write it.").phase(Phase::Commentary))
                .exec(ExecCommand::new(command).escalated("May I?")),
        );
        server.model.push(Reply::text("I was not allowed. Ünïcode ✓ 你好 🎉"));
        server.model.push(Reply::new().exec(ExecCommand::new("echo out of the command")));
        server.model.push(Reply::text("Done."));
        let whole = Tape::new();
        let recorder = rt::Recorder::to_writer(whole.clone()).unredacted();
        let mut config = rt::Config::default();
        config.limits.merge_after = None;
        config.recorder = Some(recorder.clone());
        let codex = wait!(rt::spawn_with(&server.command(), config)).expect("the server starts");
        let thread = wait!(codex.thread_start(server.thread_start())).expect("a thread");
        let mut seen = TypedEvents::default();
        for prompt in ["Write the file.", "Run the command."] {
            let turn = wait!(thread.turn(prompt)).expect("a turn");
            while let Some(event) = wait!(turn.next()) {
                seen.live(&event);
            }
            seen.over(&wait!(turn.result()));
        }
        wait!(codex.close());
        assert!(recorder.wait(support::PATIENCE));
        assert!(!target.exists(), "nothing was approved");
        assert!(seen.events.iter().any(|event| event.contains("Refused")), "{} events", seen.events.len());
        let recording = whole.recording().expect("a recording");
        assert_eq!(recording.server_version(), Some(server.version()));
        assert_eq!(misfits(&recording), []);
        seen.assert_replayed(&recording);

        // Redacted: nothing of the session is in it, and the same things happen.
        let recording = recording.redacted(&rt::core::record::Redactor::with_seed(1));
        let text = recording.to_text();
        let work = server.home.work().display().to_string();
        for secret in ["hunter2", "gotcha", "Let me write", "not allowed", "out of the command", "May I", work.as_str()] {
            assert!(!text.contains(secret), "{secret}");
        }
        seen.assert_replayed_in_shape(&recording);

        // As a peer, for the same program.
        let (codex, replaying) = wait!(connect_to_recording(whole.recording().expect("a recording"))).expect("connects");
        let thread = wait!(codex.thread_start(server.thread_start())).expect("a thread");
        let mut again = TypedEvents::default();
        for prompt in ["Write the file.", "Run the command."] {
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

real_scenario! {
    fn ob_02_the_real_server_takes_requests_with_a_trace_context() {
        let Some(server) = real_server("ob_02_the_real_server_takes_requests_with_a_trace_context") else { return };
        server.model.push(Reply::text("Hello."));
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let tape = Tape::new();
        let recorder = rt::Recorder::to_writer(tape.clone()).unredacted();
        let mut config = rt::Config::default();
        config.recorder = Some(recorder.clone());
        config.trace_source = Some(rt::TraceSource::new(move || Some(rt::TraceContext::new(parent))));
        let codex = wait!(rt::spawn_with(&server.command(), config)).expect("the server starts");
        let thread = wait!(codex.thread_start(server.thread_start())).expect("a thread");
        assert_eq!(wait!(thread.run("Say hello.")).expect("completed").final_response.as_deref(), Some("Hello."));
        wait!(codex.close());
        // Nothing of it comes back, so what was taken is what was sent.
        assert!(recorder.wait(support::PATIENCE));
        let recording = tape.recording().expect("a recording");
        let sent = recording.records.iter().filter_map(|record| match &record.step {
            Step::Sent(line) => serde_json::from_slice::<Value>(&line.bytes).ok(),
            _ => None,
        });
        let requests: Vec<Value> = sent.filter(|line| !line["id"].is_null() && line["method"] != "initialize").collect();
        let traced = |line: &Value| line["trace"]["traceparent"] == parent;
        assert!(requests.len() > 1 && requests.iter().all(traced), "{requests:?}");
    }
}

real_scenario! {
    fn ob_09_the_start_of_the_real_server_is_timed() {
        let Some(server) = real_server("ob_09_the_start_of_the_real_server_is_timed") else { return };
        let codex = wait!(rt::spawn(&server.command())).expect("the server starts");
        let timings = codex.timings();
        assert!(timings.resolve.is_some() && timings.spawn.is_some(), "{timings:?}");
        assert!(timings.initialize.is_some_and(|initialize| initialize > std::time::Duration::from_millis(1)), "{timings:?}");
        wait!(codex.close());
    }
}
