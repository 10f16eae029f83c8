//! The scripted model by itself, over plain sockets: which reply is used, what is written, how waits and threads end.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use turnwire_testkit::model::{ExecCommand, Gate, Message, Outcome, Phase, Reply, ScriptedModel, Usage};

const PATIENCE: Duration = Duration::from_secs(20);

fn connect(model: &ScriptedModel) -> TcpStream {
    let socket = TcpStream::connect(model.address()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// Sends a model request with this text of the user and leaves the socket open.
fn ask(model: &ScriptedModel, text: &str) -> TcpStream {
    let mut socket = connect(model);
    let content = json!([{"type": "input_text", "text": text}]);
    let body = json!({"model": "m", "input": [{"type": "message", "role": "user", "content": content}]}).to_string();
    write!(socket, "POST /v1/responses HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    socket
}

fn read_all(mut socket: TcpStream) -> String {
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    answer
}

/// The data of all events in a response.
fn events(answer: &str) -> Vec<Value> {
    answer
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|data| serde_json::from_str(data).unwrap())
        .collect()
}

fn answer(model: &ScriptedModel, text: &str) -> Vec<Value> {
    events(&read_all(ask(model, text)))
}

/// The texts of all deltas.
fn deltas(events: &[Value]) -> Vec<&str> {
    let deltas = events.iter().filter(|event| event["type"] == "response.output_text.delta");
    deltas.map(|event| event["delta"].as_str().unwrap()).collect()
}

fn is_whole(answer: &str) -> bool {
    answer.ends_with("\r\n0\r\n\r\n")
}

#[test]
fn replies_come_by_key_then_rule_then_queue_then_default() {
    let model = ScriptedModel::start().unwrap();
    model.push(Reply::text("queued"));
    model.on(|request| request.has_text("ruled").then(|| Reply::text("by rule")));
    model.push_for("keyed", Reply::text("by key"));
    assert_eq!(model.unused_replies(), 2);
    assert_eq!(deltas(&answer(&model, "keyed and ruled")), ["by key"]);
    assert_eq!(deltas(&answer(&model, "keyed and ruled")), ["by rule"]);
    assert_eq!(deltas(&answer(&model, "keyed")), ["queued"]);
    assert_eq!(deltas(&answer(&model, "keyed")), ["Done."]);
    model.set_default(Reply::text("else"));
    assert_eq!(deltas(&answer(&model, "keyed")), ["else"]);
    assert_eq!(model.unused_replies(), 0);
    assert_eq!(model.faults(), [""; 0]);
}

#[test]
fn a_stream_has_its_events_in_order_and_ends_with_the_usage() {
    let model = ScriptedModel::start().unwrap();
    model.push(
        Reply::new()
            .reasoning("why")
            .message(Message::new("abcde").chunk_chars(2).phase(Phase::FinalAnswer))
            .exec(ExecCommand::new("ls").escalated("please"))
            .apply_patch("patch")
            .usage(Usage { input: 7, cached_input: 3, output: 4, reasoning_output: 1 }),
    );
    let events = answer(&model, "go");
    let kinds: Vec<&str> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    let expected = [
        "response.created",
        "response.output_item.added",
        "response.reasoning_summary_part.added",
        "response.reasoning_summary_text.delta",
        "response.output_item.done",
        "response.output_item.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_item.done",
        "response.output_item.added",
        "response.output_item.done",
        "response.output_item.added",
        "response.output_item.done",
        "response.completed",
    ];
    assert_eq!(kinds, expected);
    assert_eq!(deltas(&events), ["ab", "cd", "e"]);
    let message = &events[9]["item"];
    assert_eq!((&message["content"][0]["text"], &message["phase"]), (&json!("abcde"), &json!("final_answer")));
    let arguments: Value = serde_json::from_str(events[11]["item"]["arguments"].as_str().unwrap()).unwrap();
    let wanted = json!({"cmd": "ls", "sandbox_permissions": "require_escalated", "justification": "please"});
    assert_eq!(arguments, wanted);
    assert_eq!(events[13]["item"]["input"], "patch");
    let usage = &events[14]["response"]["usage"];
    assert_eq!((&usage["total_tokens"], &usage["input_tokens_details"]["cached_tokens"]), (&json!(11), &json!(3)));
}

#[test]
fn a_cut_stream_lacks_its_end_and_a_whole_one_has_it() {
    let model = ScriptedModel::start().unwrap();
    model.push(Reply::new().message(Message::new("begun").cut().text("never")));
    let cut = read_all(ask(&model, "go"));
    assert!(!is_whole(&cut) && !cut.contains("output_item.done"), "{cut}");
    assert_eq!(deltas(&events(&cut)), ["begun"]);
    assert!(is_whole(&read_all(ask(&model, "go"))));
    assert_eq!(model.wait_for_outcome(0, PATIENCE), Some(Outcome::Cut));
    assert_eq!(model.wait_for_outcome(1, PATIENCE), Some(Outcome::Answered));
}

#[test]
fn an_http_reply_has_its_status_headers_and_body() {
    let model = ScriptedModel::start().unwrap();
    model.push(Reply::http(429, "{\"why\":1}").header("retry-after", "2"));
    let answer = read_all(ask(&model, "go"));
    assert!(answer.starts_with("HTTP/1.1 429 Too Many Requests\r\n"), "{answer}");
    assert!(answer.contains("\r\nretry-after: 2\r\n") && answer.ends_with("\r\n\r\n{\"why\":1}"), "{answer}");
}

#[test]
fn other_paths_are_answered_with_404_at_once_and_noted() {
    let model = ScriptedModel::start().unwrap();
    let mut socket = connect(&model);
    write!(socket, "GET /v1/models?client_version=1 HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    assert!(read_all(socket).starts_with("HTTP/1.1 404 "));
    assert_eq!(model.other_requests(), ["GET /v1/models?client_version=1"]);
    assert_eq!(model.requests().len(), 0);
    assert_eq!(model.faults(), [""; 0]);
}

#[test]
fn a_gate_holds_the_stream_until_it_is_opened() {
    let model = ScriptedModel::start().unwrap();
    let gate = Gate::new();
    model.push(Reply::new().message(Message::new("before").hold(&gate).text("after")));
    assert!(!gate.wait_reached(Duration::from_millis(30)));
    let socket = ask(&model, "go");
    assert!(gate.wait_reached(PATIENCE));
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(model.wait_for_outcome(0, Duration::ZERO), Some(Outcome::Running));
    assert!(!gate.is_open());
    gate.open();
    assert_eq!(deltas(&events(&read_all(socket))), ["before", "after"]);
}

#[test]
fn a_gate_that_nobody_opens_cuts_the_stream_and_is_a_fault() {
    let model = ScriptedModel::start().unwrap();
    model.push(Reply::new().hold(&Gate::bounded(Duration::from_millis(40))).commentary("never"));
    let answer = read_all(ask(&model, "go"));
    assert!(!is_whole(&answer) && deltas(&events(&answer)).is_empty(), "{answer}");
    assert_eq!(model.wait_for_outcome(0, PATIENCE), Some(Outcome::GateExpired));
    assert_eq!(model.faults(), ["nobody opened the gate in the answer to request 0"]);
}

#[test]
fn a_peer_that_leaves_a_held_or_paused_stream_is_noticed() {
    let model = ScriptedModel::start().unwrap();
    model.push(Reply::new().hold(&Gate::new()));
    model.push(Reply::new().pause(Duration::from_secs(600)));
    for number in 0..2 {
        let socket = ask(&model, "go");
        model.wait_for_requests(number + 1, PATIENCE).unwrap();
        drop(socket);
        assert_eq!(model.wait_for_outcome(number, PATIENCE), Some(Outcome::PeerGone));
    }
}

#[test]
fn delays_slow_the_stream_down() {
    let model = ScriptedModel::start().unwrap();
    model.push(Reply::new().message(Message::new("abc").chunk_chars(1).delta_delay(Duration::from_millis(25))));
    let begin = Instant::now();
    assert_eq!(deltas(&answer(&model, "go")), ["a", "b", "c"]);
    assert!(begin.elapsed() >= Duration::from_millis(75));
}

#[test]
fn waiting_for_requests_is_bounded_and_says_what_came() {
    let model = ScriptedModel::start().unwrap();
    answer(&model, "only one");
    let came = model.wait_for_requests(2, Duration::from_millis(30)).unwrap_err();
    assert_eq!(came.len(), 1);
    assert_eq!(came[0].last_text(), "only one");
    assert_eq!(model.wait_for_outcome(5, Duration::from_millis(5)), None);
    assert_eq!(model.wait_for_requests(1, Duration::ZERO).unwrap().len(), 1);
}

#[test]
fn concurrent_requests_get_the_replies_for_their_own_words() {
    let model = ScriptedModel::start().unwrap();
    for worker in 0..8 {
        for step in 0..5 {
            model.push_for(format!("<{worker}>"), Reply::new().message(Message::new(format!("{worker}.{step}"))));
        }
    }
    std::thread::scope(|scope| {
        for worker in 0..8 {
            let model = &model;
            scope.spawn(move || {
                for step in 0..5 {
                    assert_eq!(deltas(&answer(model, &format!("go <{worker}>"))), [format!("{worker}.{step}")]);
                }
            });
        }
    });
    assert_eq!((model.requests().len(), model.unused_replies()), (40, 0));
}

#[test]
fn a_rule_may_use_the_model_and_one_that_panics_is_a_fault() {
    let model = std::sync::Arc::new(ScriptedModel::start().unwrap());
    let inside = std::sync::Arc::downgrade(&model);
    model.on(move |request| {
        assert!(!request.has_text("boom"), "asked to");
        inside.upgrade()?.push(Reply::text("by rule"));
        None
    });
    assert_eq!(deltas(&answer(&model, "go")), ["by rule"]);
    assert!(read_all(ask(&model, "boom")).starts_with("HTTP/1.1 400 "));
    assert_eq!(model.faults(), ["a rule panicked at request 1"]);
}

#[test]
fn what_is_not_a_request_is_refused_and_is_a_fault() {
    let model = ScriptedModel::start().unwrap();
    for (sent, status) in [
        ("POST /v1/responses HTTP/1.1\r\ncontent-length: 3\r\n\r\nno!", "400"),
        ("POST /v1/responses HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n", "411"),
        ("POST /v1/responses HTTP/1.1\r\ncontent-length: 99999999999\r\n\r\n", "413"),
        ("POST /v1/responses HTTP/1.1\r\ncontent-length: -1\r\n\r\n", "400"),
        ("nonsense\r\n\r\n", "400"),
    ] {
        let mut socket = connect(&model);
        socket.write_all(sent.as_bytes()).unwrap();
        let answer = read_all(socket);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{sent:?}: {answer}");
    }
    assert_eq!((model.faults().len(), model.requests().len()), (5, 0));
}

#[test]
fn stopping_cuts_open_streams_frees_the_port_and_ends_every_thread() {
    let model = ScriptedModel::start().unwrap();
    let gate = Gate::new();
    model.push(Reply::new().hold(&gate));
    model.push(Reply::new().pause(Duration::from_secs(600)));
    let (held, paused, silent) = (ask(&model, "one"), ask(&model, "two"), connect(&model));
    model.wait_for_requests(2, PATIENCE).unwrap();
    assert!(gate.wait_reached(PATIENCE));
    let address = model.address();
    let begin = Instant::now();
    model.stop();
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
    for (mut socket, bytes) in [(held, true), (paused, true), (silent, false)] {
        let mut rest = Vec::new();
        // A reset is as good an end as a close.
        let read = socket.read_to_end(&mut rest);
        assert!(read.is_err() || rest.is_empty() != bytes);
        assert!(!rest.ends_with(b"0\r\n\r\n"));
    }
    // The listening thread owned the listener: nobody accepts there any more.
    assert!(TcpStream::connect_timeout(&address, Duration::from_millis(500)).is_err());
}

#[cfg(target_os = "linux")]
#[test]
fn no_thread_of_a_dropped_model_is_left() {
    // Threads are named, so those of this process can be counted; other tests of this file run models of their own,
    // therefore the count is taken in a process of its own.
    if std::env::var_os("TURNWIRE_MODEL_ALONE").is_none() {
        let status = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "no_thread_of_a_dropped_model_is_left", "--test-threads=1"])
            .env("TURNWIRE_MODEL_ALONE", "1")
            .output()
            .unwrap();
        assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stdout));
        return;
    }
    let model = ScriptedModel::start().unwrap();
    model.push(Reply::new().hold(&Gate::new()));
    let socket = ask(&model, "go");
    model.wait_for_requests(1, PATIENCE).unwrap();
    assert_eq!(model_threads(), 2);
    drop(model);
    // A joined thread can still be listed for a moment while the kernel takes it down.
    let deadline = Instant::now() + Duration::from_secs(2);
    while model_threads() > 0 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(model_threads(), 0);
    drop(socket);
}

#[cfg(target_os = "linux")]
fn model_threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
    // The kernel keeps 15 bytes of a name.
    names.filter(|name| name.starts_with("scripted-model")).count()
}

#[test]
fn debug_shows_no_text_of_requests_or_replies() {
    let model = ScriptedModel::start().unwrap();
    let reply = Reply::new().message(Message::new("secret answer")).exec(ExecCommand::new("secret command"));
    let shown = format!("{reply:?} {:?}", Reply::http(400, "secret body"));
    model.push(reply);
    answer(&model, "secret question");
    let shown = format!("{shown} {model:?} {:?}", model.requests());
    assert!(!shown.contains("secret"), "{shown}");
}
