// Scenarios against the real server with a scripted model behind it: what a turn says on its way and comes to, what the
// server refuses, and how it is overloaded. Included once for each runtime.

use crate::support::{PATIENCE, eventually, real_server};
use rt::{
    ApprovalMode, Event, Input, RpcErrorKind, Sandbox, SteerError, TurnRequest,
    protocol::{
        ModelList, ThreadItem, ThreadTurnsList, TurnDiffUpdatedNotification, TurnStart, UserInput,
    },
    Retry, core::retry::Overload,
};
use serde::Deserialize;
use serde_json::json;
use std::time::{Duration, Instant};
use turnwire_testkit::model::{ExecCommand, Gate, Message, Phase, Reply, Usage};

real_scenario! {
    fn tu_01_tu_12_a_result_of_the_real_server_has_what_its_last_word_on_the_turn_has_not() {
        let Some(server) = real_server("tu_01_tu_12_a_result_of_the_real_server") else { return };
        server.model.push(
            Reply::new()
                .reasoning("Look first.")
                .message(Message::new("Looking.").phase(Phase::Commentary))
                .exec(ExecCommand::new("echo found"))
                .usage(Usage { input: 10, cached_input: 4, output: 5, reasoning_output: 1 }),
        );
        server.model.push(Reply::text("Found.").usage(Usage { input: 20, cached_input: 10, output: 6, reasoning_output: 2 }));
        let codex = wait!(rt::spawn(&server.command())).expect("the server starts");
        let thread = wait!(codex.thread_start(server.thread_start())).expect("a thread");
        let result = wait!(thread.run("Look.")).expect("completed");
        assert_eq!((&result.thread_id, result.status), (thread.id(), rt::State::Completed));
        assert!(result.turn_id.is_some() && result.duration_ms.is_some());
        assert!(result.started_at <= result.completed_at && result.started_at.is_some());
        assert_eq!(result.final_response.as_deref(), Some("Found."), "the last without a phase, not the commentary");
        let usage = result.usage.expect("reported");
        assert_eq!((usage.input_tokens, usage.cached_input_tokens, usage.total_tokens, usage.reports), (30, 14, 41, 2));
        let kinds: Vec<&str> = result.items.iter().map(ThreadItem::kind).collect();
        let messages = kinds.iter().filter(|kind| **kind == "agentMessage").count();
        assert_eq!((kinds.first(), messages), (Some(&"userMessage"), 2), "{kinds:?}");
        let last_word: serde_json::Value = result.raw.expect("kept").decode().expect("JSON");
        assert!(last_word["items"].as_array().is_none_or(|items| items.len() < 2), "{last_word}");
        wait!(codex.close());
    }
}

real_scenario! {
    fn tu_05_the_final_answer_of_the_real_server_is_the_message_of_that_phase_in_either_order() {
        let Some(server) = real_server("tu_05_the_final_answer_of_the_real_server") else { return };
        let codex = wait!(rt::spawn(&server.command())).expect("the server starts");
        let thread = wait!(codex.thread_start(server.thread_start())).expect("a thread");
        let commentary = || Message::new("On the way.").phase(Phase::Commentary);
        let answer = || Message::new("The answer.").phase(Phase::FinalAnswer);
        server.model.push(Reply::new().message(commentary()).message(answer()));
        server.model.push(Reply::new().message(answer()).message(commentary()));
        for order in ["first", "second"] {
            let result = wait!(thread.run(order)).expect("completed");
            assert_eq!(result.final_response.as_deref(), Some("The answer."), "{order}");
        }
        wait!(codex.close());
    }
}

real_scenario! {
    fn tu_12_two_messages_to_which_the_model_gave_one_name_are_both_in_the_result() {
        let Some(server) = real_server("tu_12_two_messages_to_which_the_model_gave_one_name") else { return };
        let message = |text: &str| json!({"type": "message", "id": "msg_same", "role": "assistant", "status": "completed",
            "content": [{"type": "output_text", "text": text, "annotations": []}]});
        let reply = |text: &str| Reply::new()
            .event(json!({"type": "response.output_item.added", "output_index": 0, "item": message("")}))
            .event(json!({"type": "response.output_item.done", "output_index": 0, "item": message(text)}));
        server.model.push(reply("One.").exec(ExecCommand::new("true")));
        server.model.push(reply("Two."));
        let codex = wait!(rt::spawn(&server.command())).expect("the server starts");
        let thread = wait!(codex.thread_start(server.thread_start())).expect("a thread");
        let result = wait!(thread.run("Twice.")).expect("completed");
        let texts: Vec<String> = result.items.iter().filter_map(|item| match item {
            ThreadItem::AgentMessage(message) => Some(message.text.to_string()),
            _ => None,
        }).collect();
        assert_eq!(texts, ["One.", "Two."]);
        wait!(codex.close());
    }
}

real_scenario! {
    fn tu_02_tu_19_a_stream_of_the_real_server_has_diff_and_reasoning_between_its_start_and_its_end() {
        let Some(server) = real_server("tu_02_tu_19_a_stream_of_the_real_server") else { return };
        let patch = "*** Begin Patch\n*** Add File: new.txt\n+written\n*** End Patch\n";
        server.model.push(Reply::new().reasoning("Hm, a file.").apply_patch(patch));
        server.model.push(Reply::text("Written."));
        let codex = wait!(rt::spawn(&server.command())).expect("the server starts");
        let start = server.thread_start().with_sandbox(&Sandbox::full_access()).approval_mode(ApprovalMode::never());
        let thread = wait!(codex.thread_start(start)).expect("a thread");
        let turn = wait!(thread.turn("Write.")).expect("a turn");
        let (mut diffs, mut reasoning, mut order) = (0, String::new(), Vec::new());
        while let Some(event) = wait!(turn.next()) {
            if event.notification::<TurnDiffUpdatedNotification>().is_some_and(|diff| diff.diff.contains("written")) {
                diffs += 1;
            }
            match event {
                Event::Started(_) => order.push("started"),
                Event::ItemCompleted(_) if order.last() != Some(&"items") => order.push("items"),
                Event::Ended(_) => order.push("ended"),
                Event::Delta(delta) if delta.kind == rt::DeltaKind::ReasoningSummary => reasoning.push_str(&delta.text),
                _ => {}
            }
        }
        assert_eq!(order, ["started", "items", "ended"]);
        assert!(diffs > 0);
        assert_eq!(reasoning, "Hm, a file.");
        assert_eq!(wait!(turn.result()).expect("completed").final_response.as_deref(), Some("Written."));
        wait!(codex.close());
    }
}

real_scenario! {
    fn st_02_st_03_a_steer_of_what_does_not_run_is_told_apart_on_the_real_server() {
        let Some(server) = real_server("st_02_st_03_a_steer_of_what_does_not_run") else { return };
        let gate = Gate::new();
        let codex = wait!(rt::spawn(&server.command())).expect("the server starts");
        let thread = wait!(codex.thread_start(server.thread_start())).expect("a thread");
        let nobody = "01a00000-0000-7000-8000-000000000000";
        let idle = wait!(thread.steer(nobody, "more")).expect_err("nothing runs");
        assert!(matches!(idle, SteerError::Ended), "{idle}");
        server.model.push(Reply::new().message(Message::new("Working.")).hold(&gate));
        let turn = wait!(thread.turn("Work.")).expect("a turn");
        assert!(gate.wait_reached(PATIENCE), "the model is asked");
        let other = wait!(thread.steer(nobody, "more")).expect_err("another runs");
        let SteerError::Mismatch { expected, actual } = &other else { panic!("{other}") };
        assert_eq!((expected.as_str(), Some(actual)), (nobody, turn.id().as_ref()));
        gate.open();
        wait!(turn.result()).expect("completed");
        wait!(codex.close());
    }
}

real_scenario! {
    fn st_01_two_handles_that_steer_at_once_are_both_heard_by_the_real_server() {
        let Some(server) = real_server("st_01_two_handles_that_steer_at_once") else { return };
        let gate = Gate::new();
        server.model.push(Reply::new().message(Message::new("Thinking.")).hold(&gate));
        server.model.push(Reply::text("Both, then."));
        let codex = wait!(rt::spawn(&server.command())).expect("the server starts");
        let thread = wait!(codex.thread_start(server.thread_start())).expect("a thread");
        let turn = wait!(thread.turn("Plan.")).expect("a turn");
        assert!(gate.wait_reached(PATIENCE), "the model is asked");
        let by_turn = go!([turn] wait!(turn.steer("The first wish.")).expect("taken"));
        let by_thread = wait!(thread.steer_or_start("The second wish.")).expect("taken");
        assert!(matches!(by_thread, rt::SteerOrStart::Steered(id) if Some(&id) == turn.id().as_ref()));
        assert_eq!(Some(join!(by_turn)), turn.id());
        gate.open();
        wait!(turn.result()).expect("completed");
        let last = server.model.requests().pop().expect("requests");
        assert!(last.has_text("The first wish.") && last.has_text("The second wish."));
        wait!(codex.close());
    }
}

real_scenario! {
    fn st_13_st_15_sixteen_threads_of_the_real_server_run_at_once_and_models_are_listed_meanwhile() {
        let Some(server) = real_server("st_13_st_15_sixteen_threads_of_the_real_server") else { return };
        let gates: Vec<Gate> = (0..16).map(|_| Gate::new()).collect();
        for (n, gate) in gates.iter().enumerate() {
            let message = Message::new(format!("Answer {n:02}. ")).hold(gate).text("All of it.");
            server.model.push_for(format!("question {n:02}"), Reply::new().message(message));
        }
        let codex = wait!(rt::spawn(&server.command())).expect("the server starts");
        let mut turns = Vec::new();
        for n in 0..16 {
            let thread = wait!(codex.thread_start(server.thread_start())).expect("a thread");
            turns.push(wait!(thread.turn(format!("question {n:02}"))).expect("a turn"));
        }
        assert!(gates.iter().all(|gate| gate.wait_reached(PATIENCE)), "all sixteen run");
        let asked = Instant::now();
        assert!(!wait!(codex.models()).expect("answered").data.is_empty());
        assert!(asked.elapsed() < PATIENCE, "beside sixteen turns that stream");
        gates.iter().for_each(Gate::open);
        for (n, turn) in turns.iter().enumerate() {
            let mut text = String::new();
            while let Some(event) = wait!(turn.next()) {
                if let Event::Delta(delta) = event {
                    text.push_str(&delta.text);
                }
            }
            assert_eq!(text, format!("Answer {n:02}. All of it."));
            assert_eq!(wait!(turn.result()).expect("completed").final_response, Some(text));
        }
        wait!(codex.close());
    }
}

real_scenario! {
    fn rt_05_what_names_no_thread_goes_to_the_session_of_the_real_server() {
        let Some(server) = real_server("rt_05_what_names_no_thread_goes_to_the_session") else { return };
        let codex = wait!(rt::spawn(&server.command())).expect("the server starts");
        let mut events = codex.events();
        let thread = wait!(codex.thread_start(server.thread_start())).expect("a thread");
        let turn = wait!(thread.turn("Hello.")).expect("a turn");
        wait!(turn.result()).expect("completed");
        let key = rt::Secret::new("sk-not-a-key");
        wait!(codex.login_api_key(key)).expect("stored");
        let (mut of_session, mut of_turns) = (0, 0);
        wait!(codex.close());
        while let Some(event) = wait!(events.next()) {
            match event {
                Event::Account(_) | Event::RateLimits(_) => of_session += 1,
                Event::Started(_) | Event::Delta(_) | Event::ItemCompleted(_) => of_turns += 1,
                _ => {}
            }
        }
        assert!(of_session > 0 && of_turns == 0, "{of_session} {of_turns}");
    }
}

real_scenario! {
    fn rq_04_refusals_of_the_real_server_have_their_kinds_and_keep_everything() {
        let Some(server) = real_server("rq_04_refusals_of_the_real_server") else { return };
        let gate = Gate::new();
        let codex = wait!(rt::spawn(&server.command())).expect("the server starts");
        let thread = wait!(codex.thread_start(server.thread_start())).expect("a thread");
        let mut seen = Vec::new();
        let unknown = wait!(codex.request_raw("no/such", json!({}))).expect_err("unknown");
        assert_eq!(&*unknown.method, "no/such");
        seen.push(unknown);
        seen.push(wait!(codex.request(ThreadTurnsList::new(thread.id().clone()))).expect_err("it never ran"));
        let long = TurnStart::new(thread.id().clone(), [UserInput::text("x".repeat(1_048_577))]);
        seen.push(wait!(codex.request(long)).expect_err("too long"));
        server.model.push(Reply::new().message(Message::new("Working.")).hold(&gate));
        let turn = wait!(thread.turn("Work.")).expect("a turn");
        assert!(gate.wait_reached(PATIENCE), "the model is asked");
        let other_form = TurnStart::new(thread.id().clone(), [UserInput::text("x")]).output_schema(rt::Json::from(json!({"type": "object"})));
        let late = wait!(codex.request(other_form));
        gate.open();
        wait!(turn.result()).expect("completed");
        wait!(codex.close());
        let kinds: Vec<RpcErrorKind> = seen.iter().map(|error| error.rpc().expect("the server's own").kind()).collect();
        assert_eq!(kinds[0], RpcErrorKind::InvalidRequest);
        assert!(matches!(kinds[1], RpcErrorKind::MethodNotFound | RpcErrorKind::InvalidRequest), "{:?}", seen[1]);
        let too_long = seen[2].rpc().expect("the server's own");
        // Servers before 0.154 have no code of its own for it.
        if kinds[2] == RpcErrorKind::InvalidParams {
            assert!(too_long.data.as_ref().is_some_and(|data| data.as_str().contains("input_too_large")));
        }
        assert!(seen.iter().all(|error| !error.is_retryable() && !error.rpc().expect("rpc").message.is_empty()));
        if let Err(late) = late {
            assert_eq!(late.rpc().map(|rpc| rpc.kind()), Some(RpcErrorKind::Internal));
        }
    }
}

real_scenario! {
    fn rq_05_the_real_servers_own_overload_is_known_and_the_session_goes_on() {
        let Some(server) = real_server("rq_05_the_real_servers_own_overload") else { return };
        let mut config = rt::Config::default();
        config.limits.max_in_flight = 10_000;
        config.timeouts.reply = Duration::from_secs(5);
        let codex = wait!(rt::spawn_with(&server.command(), config)).expect("the server starts");
        // More at once than the server has room for. Of some it says so, and of some it says nothing.
        let mut refused = None;
        for _ in 0..12 {
            let burst: Vec<Joined<Result<(), rt::CallError>>> = (0..800).map(|_| go!([codex] wait!(codex.request(ModelList::new())).map(drop))).collect();
            for one in burst {
                if let Err(error) = join!(one) {
                    if error.rpc().is_some() {
                        refused = Some(error);
                    }
                }
            }
            if refused.is_some() {
                break;
            }
        }
        let Some(refused) = refused else { panic!("it is never overloaded") };
        let rpc = refused.rpc().expect("the server's own");
        assert_eq!((rpc.code, rpc.kind(), rpc.data.is_none()), (-32001, RpcErrorKind::Overloaded, true));
        assert!(refused.is_retryable() && !refused.may_have_effect());
        assert_eq!(refused.overload(), Overload::Refused);
        assert!(wait!(codex.retry_on_overload(&rt::RetryPolicy::default(), || codex.models())).is_ok());
        wait!(codex.close());
    }
}

real_scenario! {
    fn sb_05_without_approval_arguments_the_real_server_keeps_what_the_thread_had() {
        let Some(server) = real_server("sb_05_without_approval_arguments") else { return };
        let codex = wait!(rt::spawn(&server.command())).expect("the server starts");
        let start = server.thread_start().approval_mode(ApprovalMode::deny_all());
        let thread = wait!(codex.thread_start(start)).expect("a thread");
        wait!(thread.run("Inherited.")).expect("completed");
        let told = |thread: &rt::Thread| {
            thread.known_settings().and_then(|known| known.approval_policy).map(|policy| policy.kind().to_string())
        };
        assert_eq!(told(&thread).as_deref(), Some("never"));
        let fork = wait!(thread.fork()).expect("forked");
        assert_eq!(told(&fork).as_deref(), Some("never"));
        wait!(codex.close());
        let codex = wait!(rt::spawn(&server.command())).expect("the server starts");
        let resumed = wait!(codex.thread_resume(rt::Resume::new(thread.id()))).expect("resumed");
        assert_eq!(told(&resumed.thread).as_deref(), Some("never"));
        wait!(codex.close());
    }
}

real_scenario! {
    fn in_03_a_relative_path_reaches_the_real_server_as_an_absolute_one_and_one_of_windows_as_it_is() {
        let Some(server) = real_server("in_03_a_relative_path_reaches_the_real_server") else { return };
        let codex = wait!(rt::spawn(&server.command())).expect("the server starts");
        let thread = wait!(codex.thread_start(server.thread_start())).expect("a thread");
        let input = Input::new().text("See.").local_image("no-such.png").local_image("C:\\no\\such.png");
        let result = wait!(thread.run(input)).expect("what is not there is told to the model");
        let here = std::env::current_dir().expect("a folder").join("no-such.png");
        let paths: Vec<String> = result.items.iter().filter_map(|item| match item {
            ThreadItem::UserMessage(message) => Some(serde_json::to_value(message).expect("JSON")),
            _ => None,
        }).flat_map(|message| message["content"].as_array().cloned().unwrap_or_default())
            .filter_map(|part| part["path"].as_str().map(String::from)).collect();
        assert_eq!(paths, [here.display().to_string(), "C:\\no\\such.png".into()]);
        wait!(codex.close());
    }
}

#[derive(Debug, Deserialize, PartialEq, schemars::JsonSchema)]
struct Place {
    file: String,
    line: Option<u32>,
}

real_scenario! {
    fn in_09_an_optional_field_is_required_and_nullable_for_the_model_of_the_real_server() {
        let Some(server) = real_server("in_09_an_optional_field_is_required_and_nullable") else { return };
        let codex = wait!(rt::spawn(&server.command())).expect("the server starts");
        let thread = wait!(codex.thread_start(server.thread_start())).expect("a thread");
        for (answer, line) in [(r#"{"file":"a","line":null}"#, None), (r#"{"file":"a","line":7}"#, Some(7))] {
            server.model.push(Reply::text(answer));
            let typed = wait!(thread.run_typed::<Place>(TurnRequest::new("Where?"))).expect("it fits");
            assert_eq!(typed.value, Place { file: "a".into(), line });
        }
        wait!(codex.close());
        assert!(eventually(|| server.model.requests().len() == 2));
        let schema = server.model.requests()[0].body()["text"]["format"]["schema"].clone();
        assert_eq!(schema["required"], json!(["file", "line"]));
        assert!(schema["properties"]["line"].to_string().contains("null"), "{schema}");
    }
}
