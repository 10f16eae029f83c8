// Scenarios against the scripted server, a fake: answers that come too late, twice, to nobody, or in no shape that fits. Included once for each runtime.

use crate::support::scripted;
use rt::{
    CallError,
    core::{
        error::{Delivery, Fault},
        turn::DiagnosticKind,
    },
    protocol::{ThreadRead, ThreadStart},
};
use serde_json::{Value, json};
use std::time::Duration;
use turnwire_testkit::scripted::{Rule, Script};

/// What the client took for an answer to no request of its own: late, double, to a request that never was.
fn stray(codex: &rt::Codex) -> (u64, u64, u64) {
    let counters = codex.counters();
    (counters.late, counters.duplicate, counters.unknown_responses)
}

scenario! {
    fn rq_02_an_answer_after_the_deadline_is_counted_and_the_next_request_gets_its_own() {
        const DEADLINE: Duration = Duration::from_millis(700);
        // The first request is never answered in time: its answer comes just before that to the second.
        let with_a_result = Rule::on("model/list").nth(2).reply_to_id(2, json!({"data": []})).default_reply();
        let with_an_error = Rule::on("model/list").nth(2).error_to_id(2, -32000, "too late").default_reply();
        let mut of_the_reply = rt::Config::default();
        of_the_reply.timeouts.reply = DEADLINE;
        let mut of_the_call = rt::Config::default();
        of_the_call.timeouts.call = DEADLINE;
        for (answer, config) in [(with_a_result, of_the_reply), (with_an_error, of_the_call)] {
            let server = scripted(&Script::new().rule(Rule::on("model/list").nth(1)).rule(answer));
            let codex = wait!(rt::spawn_with(&server.command(), config)).expect("connects");
            let error = wait!(codex.models()).expect_err("no answer in time");
            assert_eq!(error.method, "model/list");
            assert!(error.is_timeout() && error.may_have_effect() && !error.is_closed(), "{error}");
            let Fault::TimedOut { delivery, elapsed, .. } = &error.fault else { panic!("{error}") };
            assert!(*delivery == Delivery::Sent && *elapsed >= DEADLINE, "{error:?}");
            assert_eq!(stray(&codex), (0, 0, 0), "it has not come yet");
            let models = wait!(codex.models()).expect("its own answer");
            assert!(!models.data.is_empty(), "and not that to the request before");
            assert_eq!(stray(&codex), (1, 0, 0));
            let said: Vec<_> = codex.diagnostics().iter().map(|said| said.kind).collect();
            assert_eq!(said, [DiagnosticKind::LateResponse]);
            let thread = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
            assert_eq!(wait!(thread.run("Go.")).expect("completed").final_response.as_deref(), Some("You said: Go."));
            assert_eq!((stray(&codex), codex.counters().requests), ((1, 0, 0), 0));
            wait!(codex.close());
        }
    }
}

scenario! {
    fn rq_02_an_answer_that_comes_twice_or_to_no_request_leaves_the_next_one_unharmed() {
        // The first has the id 2. Each later one gets an answer that is not its own before its own.
        let own = || Rule::on("echo");
        let odd = [
            (own().nth(2).reply_to_id(2, json!({"n": "again"})), (0, 1, 0)),
            (own().nth(3).error_to_id(2, -32000, "again"), (0, 2, 0)),
            (own().nth(4).reply_to_id(999, json!({"n": "nobody's"})), (0, 2, 1)),
            (own().nth(5).reply_to_id("6", json!({"n": "the id as a text"})), (0, 2, 2)),
            (own().nth(6).reply_to_id(-7, json!({"n": "a negative id"})), (0, 2, 3)),
            (own().nth(7).error_to_id(999, -32000, "nobody's"), (0, 2, 4)),
        ];
        let mut script = Script::new();
        for (rule, _) in &odd {
            script = script.rule(rule.clone().reply(json!({"n": "$params.n"})));
        }
        let server = scripted(&script.rule(own().reply(json!({"n": "$params.n"}))));
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let before = [(0, 0, 0)];
        for (n, counted) in before.into_iter().chain(odd.iter().map(|(_, counted)| *counted)).enumerate() {
            let answer = wait!(codex.request_raw("echo", json!({"n": n}))).expect("answered");
            assert_eq!(answer.decode::<Value>().expect("JSON"), json!({"n": n}));
            assert_eq!(stray(&codex), counted, "{n}");
        }
        assert_eq!(codex.diagnostics().len(), odd.len());
        assert!(wait!(codex.models()).is_ok() && codex.counters().requests == 0);
        wait!(codex.close());
    }
}

/// Method, path and raw result of an answer that did not fit, if that is what it was, and it is told from all else.
fn misfit(error: &CallError) -> (String, String, String) {
    let told = format!("{error} {error:?}");
    assert!(!told.contains("hunter2"), "{told}");
    assert!(error.rpc().is_none() && !error.is_closed() && !error.is_timeout() && !error.is_retryable(), "{told}");
    assert!(error.may_have_effect(), "{told}");
    let Fault::Decode { path, raw, .. } = &error.fault else { panic!("{told}") };
    assert!(error.to_string().contains(path.as_str()), "{told}");
    (error.method.to_string(), path.clone(), raw.as_str().to_owned())
}

scenario! {
    fn rq_12_an_answer_that_does_not_fit_is_an_error_with_its_path_and_the_session_goes_on() {
        let models = json!({"data": "hunter2"});
        let started = json!({"thread": {"id": ["hunter2"]}});
        let turn = json!({"turn": {"id": ["hunter2"]}});
        let thread = json!({"id": "T", "sessionId": "S", "preview": "", "ephemeral": false, "modelProvider": "p", "cwd": "/", "createdAt": 1,
            "updatedAt": 2, "status": {"type": "idle"}, "cliVersion": "0.163.0", "source": "vscode", "turns": [
                {"id": "U", "status": "completed", "items": []}, {"id": ["hunter2"], "status": "completed", "items": []}]});
        let mut undated = json!({"thread": thread});
        undated["thread"]["updatedAt"] = json!({"when": "hunter2"});
        let script = Script::new().rule(Rule::on("model/list").once().reply(models.clone()))
            .rule(Rule::on("thread/start").once().reply(started.clone()))
            .rule(Rule::on("thread/read").once().reply(undated.clone()))
            .rule(Rule::on("thread/read").once().reply(json!({"thread": thread})))
            .rule(Rule::on("turn/start").once().reply(turn.clone()));
        let server = scripted(&script);
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let found = |error: &CallError| {
            let (method, path, raw) = misfit(error);
            (method, path, serde_json::from_str::<Value>(&raw).expect("JSON"))
        };
        let of = |method: &str, path: &str, raw: &Value| (method.to_owned(), path.to_owned(), raw.clone());

        let error = wait!(codex.models()).expect_err("no list");
        assert_eq!(found(&error), of("model/list", "data", &models));
        assert!(!wait!(codex.models()).expect("the next is answered").data.is_empty());

        let error = wait!(codex.thread_start(ThreadStart::new())).expect_err("no name");
        assert_eq!(found(&error), of("thread/start", "thread.id", &started));
        let thread = wait!(codex.thread_start(ThreadStart::new())).expect("the next is answered");

        let error = wait!(codex.request(ThreadRead::new("T"))).expect_err("no time");
        assert_eq!(found(&error), of("thread/read", "thread.updatedAt", &undated));
        // In a list what does not fit costs itself alone, and is there as it came.
        let turns = wait!(codex.request(ThreadRead::new("T"))).expect("the next is answered").thread.turns;
        let [odd] = turns.undecodable() else { panic!("{turns:?}") };
        assert_eq!((turns.len(), odd.index, odd.reason.path.as_str()), (1, 1, "id"));
        assert_eq!(odd.raw.decode::<Value>().expect("JSON")["id"], json!(["hunter2"]));

        let error = wait!(thread.run("Go.")).expect_err("no name");
        let rt::TurnError::Start(call) = &error else { panic!("{error}") };
        assert_eq!(found(call), of("turn/start", "turn.id", &turn));
        assert!(!error.is_closed() && !error.is_timeout(), "{error}");
        let result = wait!(thread.run("Go.")).expect("the next runs, on the same thread");
        assert_eq!(result.final_response.as_deref(), Some("You said: Go."));

        let counters = codex.counters();
        assert_eq!((stray(&codex), counters.malformed, counters.noise), ((0, 0, 0), 0, 0), "they were answers");
        assert_eq!((counters.requests, counters.turns), (0, 0), "{counters:?}");
        wait!(codex.close());
    }
}
