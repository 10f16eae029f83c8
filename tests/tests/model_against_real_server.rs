//! Proves the scripted model against the real server, with raw lines and no client of ours: what the server understands
//! here is what the other suites may rely on.
//!
//! Needs an installed server, see `turnwire_testkit::real`. Every wait ends after [`PATIENCE`].

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use turnwire_testkit::model::{ExecCommand, Gate, Message, Outcome, Phase, Reply, ScriptedModel, Usage};
use turnwire_testkit::real::{self, RealHome};

/// The longest wait for anything. Far above what a loaded machine needs, far below a hanging test run.
const PATIENCE: Duration = Duration::from_secs(60);

/// A model, a home and a running server with its handshake done.
struct Bench {
    // In the order of dropping: the server first, its folders last.
    server: Server,
    model: ScriptedModel,
    home: RealHome,
    /// What the server calls its version.
    version: String,
}

impl Bench {
    fn new(test_name: &str) -> Option<Self> {
        let program = real::find_or_skip(test_name)?;
        let model = ScriptedModel::start().unwrap();
        let home = RealHome::new(&model.base_url()).unwrap();
        let mut server = Server::start(&program, &home);
        let client = json!({"name": "turnwire_testkit", "version": "0"});
        let hello = json!({"clientInfo": client, "capabilities": {"experimentalApi": true}});
        let agent = server.call("initialize", &hello)["userAgent"].as_str().unwrap().to_owned();
        let version = agent.split(['/', ' ']).nth(1).unwrap_or_default().to_owned();
        server.write(&json!({"method": "initialized"}));
        Some(Self { server, model, home, version })
    }

    /// A thread with these members in `thread/start`; its id.
    fn thread(&mut self, mut params: Value) -> String {
        params["cwd"] = json!(self.home.work());
        let result = self.server.call("thread/start", &params);
        result["thread"]["id"].as_str().unwrap().to_owned()
    }

    fn turn(&mut self, thread: &str, text: &str) -> String {
        let input = json!([{"type": "text", "text": text}]);
        let result = self.server.call("turn/start", &json!({"threadId": thread, "input": input}));
        result["turn"]["id"].as_str().unwrap().to_owned()
    }

    /// The turn of `turn/completed`.
    fn end_of(&mut self, turn: &str) -> Value {
        let found = self.server.wait(&format!("end of turn {turn}"), |line| {
            line["method"] == "turn/completed" && line["params"]["turn"]["id"] == turn
        });
        found["params"]["turn"].clone()
    }

    /// Runs a turn to its end, which must be good; its id.
    fn completed_turn(&mut self, thread: &str, text: &str) -> String {
        let turn = self.turn(thread, text);
        let end = self.end_of(&turn);
        assert_eq!(end["status"], "completed", "{end}");
        turn
    }

    /// The completed items of one kind in one turn.
    fn items(&self, turn: &str, kind: &str) -> Vec<Value> {
        let lines = self.server.notifications("item/completed", turn);
        lines.into_iter().map(|params| params["item"].clone()).filter(|item| item["type"] == kind).collect()
    }

    /// False for the older servers that these tests run against as well, where they differ.
    fn is_of_this_release(&self) -> bool {
        self.version == real::VERSION
    }

    fn assert_script_used_up(&self) {
        assert_eq!(self.model.faults(), [""; 0]);
        assert_eq!(self.model.unused_replies(), 0);
    }
}

/// The real server as a child process. All its lines are kept.
struct Server {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<Value>,
    seen: Vec<Value>,
    stderr: Arc<Mutex<String>>,
    next_id: u64,
}

impl Server {
    fn start(program: &Path, home: &RealHome) -> Self {
        let mut command = home.command(program);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let value = serde_json::from_str(&line).unwrap_or_else(|_| json!({"not JSON": line}));
                if sender.send(value).is_err() {
                    return;
                }
            }
        });
        let (mut pipe, stderr) = (child.stderr.take().unwrap(), Arc::new(Mutex::new(String::new())));
        let kept = Arc::clone(&stderr);
        std::thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(count @ 1..) = pipe.read(&mut chunk) {
                kept.lock().unwrap().push_str(&String::from_utf8_lossy(&chunk[..count]));
            }
        });
        let stdin = child.stdin.take();
        Self { child, stdin, lines, seen: Vec::new(), stderr, next_id: 0 }
    }

    fn write(&mut self, line: &Value) {
        writeln!(self.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    /// Sends a request and waits for its result.
    fn call(&mut self, method: &str, params: &Value) -> Value {
        let id = format!("request {}", self.next_id);
        self.next_id += 1;
        self.write(&json!({"id": id, "method": method, "params": params}));
        let reply = self.wait(&format!("reply to {method}"), |line| line["id"] == id && line["method"].is_null());
        assert!(reply["error"].is_null(), "{method} was refused: {reply}");
        reply["result"].clone()
    }

    /// The first line, seen already or still to come, that `is_wanted`.
    fn wait(&mut self, what: &str, is_wanted: impl Fn(&Value) -> bool) -> Value {
        if let Some(line) = self.seen.iter().find(|line| is_wanted(line)) {
            return line.clone();
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if is_wanted(&line) {
                        return line;
                    }
                }
                Err(error) => self.fail(what, error),
            }
        }
    }

    fn fail(&self, what: &str, error: RecvTimeoutError) -> ! {
        let lines: Vec<String> = self.seen.iter().map(Value::to_string).collect();
        let stderr = self.stderr.lock().unwrap();
        panic!("no {what}: {error}\nlines:\n{}\nstderr:\n{stderr}", lines.join("\n"));
    }

    /// The params of all notifications of that method in that turn so far.
    fn notifications(&self, method: &str, turn: &str) -> Vec<Value> {
        let all = self.seen.iter().filter(|line| line["method"] == method && line["params"]["turnId"] == turn);
        all.map(|line| line["params"].clone()).collect()
    }

    fn wait_for_delta(&mut self, turn: &str) -> Value {
        self.wait("text delta", |line| line["method"] == "item/agentMessage/delta" && line["params"]["turnId"] == turn)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let deadline = Instant::now() + Duration::from_secs(5);
        while Instant::now() < deadline {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn full_access() -> Value {
    json!({"sandbox": "danger-full-access", "approvalPolicy": "never"})
}

#[test]
fn a_plain_turn_streams_reasoning_commentary_and_the_answer_with_usage() {
    let Some(mut bench) = Bench::new("a_plain_turn_streams_reasoning_commentary_and_the_answer_with_usage") else {
        return;
    };
    let answer = "Grüße: everything is in order.";
    let usage = Usage { input: 1200, cached_input: 1000, output: 70, reasoning_output: 30 };
    bench.model.push(
        Reply::new()
            .reasoning("Look at it first.")
            .commentary("I am looking.")
            .message(Message::new(answer).phase(Phase::FinalAnswer).chunk_chars(3))
            .usage(usage),
    );
    let thread = bench.thread(json!({}));
    let turn = bench.completed_turn(&thread, "Is all well?");

    let messages = bench.items(&turn, "agentMessage");
    assert_eq!(messages.len(), 2, "{messages:?}");
    assert_eq!((&messages[0]["text"], &messages[0]["phase"]), (&json!("I am looking."), &json!("commentary")));
    assert_eq!((&messages[1]["text"], &messages[1]["phase"]), (&json!(answer), &json!("final_answer")));
    let deltas = bench.server.notifications("item/agentMessage/delta", &turn);
    let of_answer: Vec<&Value> = deltas.iter().filter(|delta| delta["itemId"] == messages[1]["id"]).collect();
    assert_eq!(of_answer.len(), answer.chars().count() / 3);
    assert_eq!(of_answer.iter().filter_map(|delta| delta["delta"].as_str()).collect::<String>(), answer);
    assert_eq!(bench.items(&turn, "reasoning")[0]["summary"], json!(["Look at it first."]));
    let reported = &bench.server.notifications("thread/tokenUsage/updated", &turn)[0]["tokenUsage"]["last"];
    assert_eq!(reported["inputTokens"], 1200);
    assert_eq!(reported["cachedInputTokens"], 1000);
    assert_eq!(reported["outputTokens"], 70);
    assert_eq!(reported["reasoningOutputTokens"], 30);
    assert_eq!(reported["totalTokens"], usage.total());

    let requests = bench.model.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].last_text(), "Is all well?");
    assert_eq!((requests[0].model(), requests[0].conversation()), ("gpt-5.5", thread.as_str()));
    assert!(requests[0].tools().contains(&"exec_command"), "{:?}", requests[0].tools());
    bench.assert_script_used_up();
}

#[test]
fn the_default_reply_is_done_and_a_rule_comes_before_it() {
    let Some(mut bench) = Bench::new("the_default_reply_is_done_and_a_rule_comes_before_it") else { return };
    bench.model.on(|request| request.has_text("second").then(|| Reply::text("By the rule.")));
    let thread = bench.thread(json!({}));
    for (text, answer) in [("first", "Done."), ("second", "By the rule.")] {
        let turn = bench.completed_turn(&thread, text);
        assert_eq!(bench.items(&turn, "agentMessage")[0]["text"], answer);
    }
}

#[test]
fn a_command_runs_and_its_output_is_in_the_next_request() {
    let Some(mut bench) = Bench::new("a_command_runs_and_its_output_is_in_the_next_request") else { return };
    bench.model.push(Reply::new().exec(ExecCommand::new("echo from the shell")));
    bench.model.push(Reply::text("It said so."));
    let thread = bench.thread(full_access());
    let turn = bench.completed_turn(&thread, "Run it.");

    let commands = bench.items(&turn, "commandExecution");
    assert_eq!(commands.len(), 1);
    assert_eq!((&commands[0]["status"], &commands[0]["exitCode"]), (&json!("completed"), &json!(0)));
    let requests = bench.model.requests();
    assert_eq!(requests.len(), 2);
    let outputs = requests[1].tool_outputs();
    assert_eq!((outputs.len(), outputs[0].0), (1, "call_0_0"));
    assert!(outputs[0].1.contains("from the shell"), "{}", outputs[0].1);
    bench.assert_script_used_up();
}

#[test]
fn a_patch_changes_a_file() {
    let Some(mut bench) = Bench::new("a_patch_changes_a_file") else { return };
    let patch = "*** Begin Patch\n*** Add File: new.txt\n+by patch\n*** End Patch";
    bench.model.push(Reply::new().apply_patch(patch));
    let thread = bench.thread(full_access());
    let turn = bench.completed_turn(&thread, "Write it.");

    assert_eq!(bench.items(&turn, "fileChange")[0]["status"], "completed");
    assert_eq!(std::fs::read_to_string(bench.home.work().join("new.txt")).unwrap(), "by patch\n");
    bench.assert_script_used_up();
}

#[test]
fn a_dynamic_tool_is_called_with_its_arguments() {
    let Some(mut bench) = Bench::new("a_dynamic_tool_is_called_with_its_arguments") else { return };
    bench.model.push(Reply::new().function_call("lookup", &json!({"word": "sluice"})));
    let schema = json!({"type": "object", "properties": {"word": {"type": "string"}}});
    let tool = json!({"type": "function", "name": "lookup", "description": "Looks up", "inputSchema": schema});
    let thread = bench.thread(json!({"dynamicTools": [tool]}));
    let turn = bench.turn(&thread, "Look it up.");
    let call = bench.server.wait("tool call", |line| line["method"] == "item/tool/call");
    assert_eq!(call["params"]["tool"], "lookup");
    assert_eq!(call["params"]["arguments"], json!({"word": "sluice"}));
    let content = json!([{"type": "inputText", "text": "a gate for water"}]);
    bench.server.write(&json!({"id": call["id"], "result": {"contentItems": content, "success": true}}));

    assert_eq!(bench.end_of(&turn)["status"], "completed");
    let requests = bench.model.requests();
    assert!(requests[1].tool_outputs()[0].1.contains("a gate for water"));
    bench.assert_script_used_up();
}

#[test]
fn an_escalated_command_asks_for_approval_with_its_justification() {
    let Some(mut bench) = Bench::new("an_escalated_command_asks_for_approval_with_its_justification") else { return };
    bench.model.push(Reply::new().exec(ExecCommand::new("echo accepted").escalated("May I?")));
    let thread = bench.thread(json!({"sandbox": "read-only", "approvalPolicy": "on-request"}));
    let turn = bench.turn(&thread, "Ask me.");
    let request =
        bench.server.wait("approval request", |line| line["method"] == "item/commandExecution/requestApproval");
    assert_eq!(request["params"]["reason"], "May I?");
    assert_eq!(request["params"]["turnId"], turn);
    bench.server.write(&json!({"id": request["id"], "result": {"decision": "accept"}}));

    assert_eq!(bench.end_of(&turn)["status"], "completed");
    assert_eq!(bench.items(&turn, "commandExecution")[0]["status"], "completed");
    bench.assert_script_used_up();
}

#[test]
fn tu_07_an_http_400_fails_the_turn_at_once_with_the_body_in_the_message() {
    let Some(mut bench) = Bench::new("tu_07_an_http_400_fails_the_turn_at_once_with_the_body_in_the_message") else {
        return;
    };
    bench.model.push(Reply::http_error(400, "invalid_request_error", "the scripted refusal"));
    let thread = bench.thread(json!({}));
    let turn = bench.turn(&thread, "Go.");
    let end = bench.end_of(&turn);

    assert_eq!(end["status"], "failed");
    assert_eq!(end["error"]["codexErrorInfo"], "other");
    assert!(end["error"]["message"].as_str().unwrap().contains("the scripted refusal"), "{end}");
    let errors = bench.server.notifications("error", &turn);
    assert_eq!(errors.iter().map(|error| &error["willRetry"]).collect::<Vec<_>>(), [&json!(false)]);
    assert_eq!(bench.model.requests().len(), 1);
    bench.completed_turn(&thread, "The thread is usable.");
}

#[test]
fn a_failed_stream_carries_its_code_to_the_turn() {
    let Some(mut bench) = Bench::new("a_failed_stream_carries_its_code_to_the_turn") else { return };
    for (code, info) in [
        ("context_length_exceeded", json!("contextWindowExceeded")),
        ("insufficient_quota", json!("usageLimitExceeded")),
        ("server_is_overloaded", json!("serverOverloaded")),
    ] {
        bench.model.push(Reply::new().commentary("So far.").failed(code, "scripted failure"));
        let thread = bench.thread(json!({}));
        let turn = bench.turn(&thread, "Go.");
        let end = bench.end_of(&turn);
        assert_eq!((&end["status"], &end["error"]["codexErrorInfo"]), (&json!("failed"), &info), "{code}: {end}");
    }
    bench.assert_script_used_up();
}

#[test]
fn an_incomplete_stream_fails_the_turn() {
    let Some(mut bench) = Bench::new("an_incomplete_stream_fails_the_turn") else { return };
    bench.model.push(Reply::text("As far as").incomplete("max_output_tokens"));
    let thread = bench.thread(json!({}));
    let turn = bench.turn(&thread, "Go.");
    let end = bench.end_of(&turn);
    if bench.is_of_this_release() {
        assert_eq!((&end["status"], &end["error"]["codexErrorInfo"]), (&json!("failed"), &json!("other")), "{end}");
        assert!(end["error"]["message"].as_str().unwrap().contains("max_output_tokens"), "{end}");
    } else {
        // 0.133.0 and 0.154.0 take it for a broken stream and try again.
        assert_eq!((&end["status"], bench.model.requests().len()), (&json!("completed"), 2), "{end}");
    }
    bench.assert_script_used_up();
}

#[test]
fn tu_08_a_503_is_retried_with_a_notice_and_the_turn_completes() {
    let Some(mut bench) = Bench::new("tu_08_a_503_is_retried_with_a_notice_and_the_turn_completes") else { return };
    bench.model.push(Reply::http_error(503, "unavailable", "come back"));
    bench.model.push(Reply::text("Here I am."));
    let thread = bench.thread(json!({}));
    let turn = bench.completed_turn(&thread, "Go.");

    let errors = bench.server.notifications("error", &turn);
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0]["willRetry"], true);
    let info = &errors[0]["error"]["codexErrorInfo"];
    assert_eq!(*info, json!({"responseStreamDisconnected": {"httpStatusCode": 503}}));
    assert_eq!(bench.items(&turn, "agentMessage")[0]["text"], "Here I am.");
    bench.assert_script_used_up();
}

#[test]
fn tu_08_a_stream_cut_inside_an_item_is_retried_and_the_item_abandoned() {
    let Some(mut bench) = Bench::new("tu_08_a_stream_cut_inside_an_item_is_retried_and_the_item_abandoned") else {
        return;
    };
    bench.model.push(Reply::new().message(Message::new("This will not ").cut()));
    bench.model.push(Reply::text("Whole."));
    let thread = bench.thread(json!({}));
    let turn = bench.completed_turn(&thread, "Go.");

    assert_eq!(bench.model.wait_for_outcome(0, PATIENCE), Some(Outcome::Cut));
    let errors = bench.server.notifications("error", &turn);
    assert_eq!(errors.iter().map(|error| &error["willRetry"]).collect::<Vec<_>>(), [&json!(true)]);
    let started = bench.server.notifications("item/started", &turn);
    assert_eq!(started.iter().filter(|params| params["item"]["type"] == "agentMessage").count(), 2);
    let messages = bench.items(&turn, "agentMessage");
    assert_eq!(messages.iter().map(|item| &item["text"]).collect::<Vec<_>>(), [&json!("Whole.")]);
    bench.assert_script_used_up();
}

#[test]
fn st_01_text_steered_while_a_gate_holds_the_stream_is_in_the_second_request() {
    let Some(mut bench) = Bench::new("st_01_text_steered_while_a_gate_holds_the_stream_is_in_the_second_request")
    else {
        return;
    };
    let gate = Gate::new();
    bench.model.push(Reply::new().message(Message::new("First half").hold(&gate).text(", second half.")));
    bench.model.push(Reply::text("As you wish."));
    let thread = bench.thread(json!({}));
    let turn = bench.turn(&thread, "Begin.");
    assert!(gate.wait_reached(PATIENCE));
    bench.server.wait_for_delta(&turn);
    let input = json!([{"type": "text", "text": "Turn left instead."}]);
    let steer = json!({"threadId": thread, "expectedTurnId": turn, "input": input});
    assert_eq!(bench.server.call("turn/steer", &steer)["turnId"], turn);
    if bench.is_of_this_release() {
        // 0.163.0 breaks the running model request off and asks anew: no gate has to open.
        assert_eq!(bench.model.wait_for_outcome(0, PATIENCE), Some(Outcome::PeerGone));
    }
    gate.open();

    assert_eq!(bench.end_of(&turn)["status"], "completed");
    let requests = bench.model.requests();
    assert_eq!(requests.len(), 2);
    assert!(!requests[0].has_text("Turn left instead."));
    assert!(requests[1].has_text("Begin."));
    assert_eq!(requests[1].last_text(), "Turn left instead.");
    // A message that was broken off is abandoned. 0.133.0 and 0.154.0 let the running request end first.
    let messages = bench.items(&turn, "agentMessage");
    let texts: Vec<&Value> = messages.iter().map(|item| &item["text"]).collect();
    match bench.model.wait_for_outcome(0, PATIENCE) {
        Some(Outcome::PeerGone) => assert_eq!(texts, ["As you wish."]),
        Some(Outcome::Answered) if !bench.is_of_this_release() => {
            assert_eq!(texts, ["First half, second half.", "As you wish."]);
        }
        other => panic!("the held stream ended as {other:?}"),
    }
    bench.assert_script_used_up();
}

#[test]
fn st_07_an_interrupt_while_a_gate_holds_the_stream_ends_as_interrupted() {
    let Some(mut bench) = Bench::new("st_07_an_interrupt_while_a_gate_holds_the_stream_ends_as_interrupted") else {
        return;
    };
    let gate = Gate::new();
    bench.model.push(Reply::new().message(Message::new("I would go on").hold(&gate)));
    let thread = bench.thread(json!({}));
    let turn = bench.turn(&thread, "Begin.");
    bench.server.wait_for_delta(&turn);
    bench.server.call("turn/interrupt", &json!({"threadId": thread, "turnId": turn}));

    assert_eq!(bench.end_of(&turn)["status"], "interrupted");
    if !bench.is_of_this_release() {
        // 0.133.0 reads the stream of an interrupted turn to its end.
        gate.open();
    }
    let outcome = bench.model.wait_for_outcome(0, PATIENCE);
    let is_dropped = outcome == Some(Outcome::PeerGone);
    assert!(is_dropped || (outcome == Some(Outcome::Answered) && !bench.is_of_this_release()), "{outcome:?}");
    let next = bench.completed_turn(&thread, "And again.");
    assert_eq!(bench.items(&next, "agentMessage")[0]["text"], "Done.");
    bench.assert_script_used_up();
}

#[test]
fn concurrent_threads_each_get_the_replies_for_their_own_words() {
    let Some(mut bench) = Bench::new("concurrent_threads_each_get_the_replies_for_their_own_words") else { return };
    let names = ["alder", "birch", "cedar", "dogwood"];
    for name in names {
        bench.model.push_for(name, Reply::new().exec(ExecCommand::new(format!("echo {name}"))));
        bench.model.push_for(name, Reply::text(format!("This is {name}.")));
    }
    let threads: Vec<String> = names.iter().map(|_| bench.thread(full_access())).collect();
    let turns: Vec<String> =
        threads.iter().zip(names).map(|(thread, name)| bench.turn(thread, &format!("Go, {name}."))).collect();
    for (turn, name) in turns.iter().zip(names) {
        assert_eq!(bench.end_of(turn)["status"], "completed");
        let messages = bench.items(turn, "agentMessage");
        assert_eq!(messages[0]["text"], format!("This is {name}."));
        let command = bench.items(turn, "commandExecution")[0]["command"].to_string();
        assert!(command.contains(&format!("echo {name}")), "{command}");
    }
    bench.assert_script_used_up();
}

#[test]
fn a_slow_stream_arrives_delta_by_delta() {
    let Some(mut bench) = Bench::new("a_slow_stream_arrives_delta_by_delta") else { return };
    let slow = Message::new("abcdef").chunk_chars(1).delta_delay(Duration::from_millis(60));
    bench.model.push(Reply::new().message(slow));
    let thread = bench.thread(json!({}));
    let turn = bench.turn(&thread, "Go.");
    bench.server.wait_for_delta(&turn);
    let begin = Instant::now();
    assert_eq!(bench.end_of(&turn)["status"], "completed");
    // Five more waits follow the first delta; the lower bound leaves room for its own late arrival.
    assert!(begin.elapsed() >= Duration::from_millis(120), "{:?}", begin.elapsed());
    assert_eq!(bench.server.notifications("item/agentMessage/delta", &turn).len(), 6);
}

#[test]
fn the_server_asks_nothing_but_the_scripted_model_and_needs_no_key() {
    let Some(mut bench) = Bench::new("the_server_asks_nothing_but_the_scripted_model_and_needs_no_key") else { return };
    let thread = bench.thread(json!({}));
    bench.completed_turn(&thread, "Go.");
    let requests = bench.model.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].header("authorization"), None);
    // A list of models may be asked for; it was answered at once with 404.
    let others = bench.model.other_requests();
    assert!(others.iter().all(|other| other.starts_with("GET /v1/models")), "{others:?}");
}
