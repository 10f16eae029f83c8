//! Promises that were found broken once, each with what broke it. Every wait here is bounded.

#[path = "core/lab.rs"]
#[allow(dead_code)]
mod lab;

use lab::{Lab, completed, delta};
use serde_json::{Value, json};
use std::{
    any::Any,
    collections::VecDeque,
    future::Future,
    io::{self, Read, Write},
    panic,
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    task::{Context, Poll, Wake, Waker},
    thread,
    time::Duration,
};
use turnwire_core::{
    client::{Clock, connect, connect_with_clock},
    connection::{Config, Connection, Event, Scope, TurnOptions},
    driver::Transport,
    launch::ExitReport,
    protocol::{ModelList, TurnStart, UserInput},
    time::Time,
    turn::{InterruptOutcome, State},
};

const BOUND: Duration = Duration::from_secs(10);

/// Runs a scenario on a thread of its own, and fails if it hangs.
fn bounded<R: Send + 'static>(scenario: impl FnOnce() -> R + Send + 'static) -> R {
    let (done, ended) = mpsc::channel::<Result<R, Box<dyn Any + Send>>>();
    thread::spawn(move || {
        let _ = done.send(panic::catch_unwind(panic::AssertUnwindSafe(scenario)));
    });
    match ended.recv_timeout(BOUND) {
        Ok(Ok(found)) => found,
        Ok(Err(panic)) => panic::resume_unwind(panic),
        Err(RecvTimeoutError::Timeout) => panic!("it hangs"),
        Err(RecvTimeoutError::Disconnected) => panic!("it vanished"),
    }
}

fn config(set: impl FnOnce(&mut Config)) -> Config {
    let mut config = Config::default();
    set(&mut config);
    config
}

fn start(thread: &str) -> TurnStart {
    TurnStart::new(thread, [UserInput::text("Hello")])
}

fn methods(sent: &[Value]) -> Vec<&str> {
    sent.iter().filter_map(|line| line["method"].as_str()).collect()
}

fn named(id: &Value, turn: &str) -> Value {
    json!({"id": id, "result": {"turn": {"id": turn, "status": "inProgress", "items": []}}})
}

// --- Turns that nobody wants, or that nobody stops ---

#[test]
fn a_turn_whose_handle_is_dropped_before_its_start_was_sent_is_not_started() {
    let mut lab = Lab::new(Config::default());
    let key = lab
        .connection
        .start_turn(lab.now, &start("T"), &TurnOptions::default().deadline(Duration::from_secs(3600)))
        .expect("a turn");
    lab.connection.release_turn(key);
    let id = lab.sent_one()["id"].clone();
    lab.say(json!({"id": id, "result": {"userAgent": "lab/0.163.0 (Linux) lab"}}));
    assert_eq!(methods(&lab.sent()), ["initialized"], "nobody asks for that turn any more");
    assert!(lab.connection.poll_timeout().is_none(), "no timer is left of it");
}

#[test]
fn a_turn_whose_deadline_passed_before_its_start_was_sent_is_not_started() {
    let mut lab = Lab::new(Config::default());
    let options = TurnOptions::default().deadline(Duration::from_secs(1));
    let key = lab.connection.start_turn(lab.now, &start("T"), &options).expect("a turn");
    let id = lab.sent_one()["id"].clone();
    lab.pass(Duration::from_secs(5));
    assert_eq!(lab.connection.turn_state(key), Some(State::TimedOut));
    lab.say(json!({"id": id, "result": {"userAgent": "lab/0.163.0 (Linux) lab"}}));
    assert_eq!(methods(&lab.sent()), ["initialized"], "the caller was told that it is over");
}

#[test]
fn a_turn_past_its_deadline_is_stopped_however_late_the_server_names_it() {
    let mut lab = Lab::ready();
    let options = TurnOptions::default().deadline(Duration::from_secs(1));
    let key = lab.connection.start_turn(lab.now, &start("T"), &options).expect("a turn");
    let id = lab.sent_one()["id"].clone();
    lab.pass(Duration::from_secs(1));
    assert_eq!(lab.connection.turn_state(key), Some(State::TimedOut));
    // Longer than an interrupt may take, shorter than an answer may.
    lab.pass(Duration::from_secs(40));
    lab.say(named(&id, "U"));
    lab.notify("turn/started", json!({"threadId": "T", "turn": {"id": "U", "status": "inProgress"}}));
    assert_eq!(methods(&lab.sent()), ["turn/interrupt"], "the server is told to stop it");
}

#[test]
fn a_deadline_stops_the_turn_though_an_earlier_interrupt_failed() {
    let mut lab = Lab::ready();
    let options = TurnOptions::default().deadline(Duration::from_secs(100));
    let key = lab.connection.start_turn(lab.now, &start("T"), &options).expect("a turn");
    let id = lab.sent_one()["id"].clone();
    lab.say(named(&id, "U"));
    lab.notify("turn/started", json!({"threadId": "T", "turn": {"id": "U", "status": "inProgress"}}));
    lab.connection.interrupt(lab.now, key).expect("the turn is there");
    let refused = lab.sent_one();
    lab.say(json!({"id": refused["id"], "error": {"code": -32603, "message": "try again"}}));
    lab.pass(Duration::from_secs(100));
    assert_eq!(lab.connection.turn_state(key), Some(State::TimedOut));
    assert_eq!(methods(&lab.sent()), ["turn/interrupt"], "the server is told to stop it");
}

#[test]
fn an_idle_thread_before_the_turn_began_does_not_count_as_its_end() {
    let mut lab = Lab::ready();
    let options = TurnOptions::default().deadline(Duration::from_secs(1));
    let key = lab.connection.start_turn(lab.now, &start("T"), &options).expect("a turn");
    let id = lab.sent_one()["id"].clone();
    lab.pass(Duration::from_secs(1));
    assert_eq!(lab.connection.turn_state(key), Some(State::TimedOut));
    // Of the turn of another client, which ended just now.
    lab.notify("thread/status/changed", json!({"threadId": "T", "status": {"type": "idle"}}));
    lab.say(named(&id, "U"));
    lab.notify("turn/started", json!({"threadId": "T", "turn": {"id": "U", "status": "inProgress"}}));
    assert_eq!(methods(&lab.sent()), ["turn/interrupt"], "the server is told to stop it");
    assert!(lab.connection.start_turn(lab.now, &start("T"), &TurnOptions::default()).is_err(), "the thread is busy");
}

#[test]
fn an_interrupt_of_a_turn_whose_start_was_not_answered_does_not_say_that_it_had_ended() {
    let mut lab = Lab::ready();
    let (key, _, _) = lab.start_turn("T");
    lab.connection.interrupt(lab.now, key).expect("the turn is there");
    let mut patient = Vec::new();
    // Whatever is due first: the interrupt or the start.
    while lab.connection.turn_state(key) == Some(State::Starting) {
        assert!(lab.jump());
        patient.extend(lab.connection.interrupt_outcome(key));
        if let Some(Err(_)) = lab.connection.interrupt_outcome(key) {
            lab.connection.interrupt(lab.now, key).expect("the turn is there");
        }
    }
    patient.extend(lab.connection.interrupt_outcome(key));
    let ended = |outcome: &Result<InterruptOutcome, _>| matches!(outcome, Ok(InterruptOutcome::AlreadyEnded));
    assert!(!patient.iter().any(ended), "the start may have reached the server, where the turn runs: {patient:?}");
}

#[test]
fn a_thread_whose_start_was_sent_and_not_answered_is_not_free() {
    let mut lab = Lab::ready();
    let (_first, _, id) = lab.start_turn("T");
    lab.pass(Duration::from_secs(61));
    // The server took its time. The turn runs, and nobody here can stop it.
    lab.say(named(&id, "U"));
    lab.notify("turn/started", json!({"threadId": "T", "turn": {"id": "U", "status": "inProgress"}}));
    let second = lab.connection.start_turn(lab.now, &start("T"), &TurnOptions::default());
    let Ok(second) = second else { return };
    let id = lab.sent_one()["id"].clone();
    // The real server would put the input into the turn that runs.
    lab.say(named(&id, "U"));
    assert!(lab.connection.turn_joined(second), "the input joined a turn, and that is not told");
}

// --- Waits that do not end ---

#[test]
fn a_turns_end_is_never_left_out_when_it_comes_before_the_turns_name() {
    for limit in [0, 1, 4] {
        let mut lab = Lab::ready_with(config(|config| config.limits.max_parked_events = limit));
        let (key, _, id) = lab.start_turn("T");
        for item in 0..10 {
            lab.notify("item/started", json!({"threadId": "T", "turnId": "U", "item": {"id": format!("i{item}")}}));
        }
        let (method, params) = completed("T", "U", "completed");
        lab.notify(method, params);
        lab.say(named(&id, "U"));
        assert_eq!(lab.connection.turn_state(key), Some(State::Completed), "max_parked_events: {limit}");
    }
}

#[test]
fn a_turns_end_is_never_left_out_at_the_default_limits_either() {
    let mut lab = Lab::ready();
    let (key, _, id) = lab.start_turn("T");
    for item in 0..9000 {
        lab.notify("item/started", json!({"threadId": "T", "turnId": "U", "item": {"id": format!("i{item}")}}));
    }
    let (method, params) = completed("T", "U", "completed");
    lab.notify(method, params);
    lab.say(named(&id, "U"));
    assert_eq!(lab.connection.turn_state(key), Some(State::Completed));
}

#[test]
fn closing_again_and_again_does_not_put_off_the_end() {
    let mut lab = Lab::ready_with(config(|config| config.expects_exit = true));
    let within = Duration::from_secs(15);
    lab.connection.close(lab.now, within);
    for _ in 0..10 {
        lab.pass(Duration::from_secs(5));
        lab.connection.close(lab.now, within);
        lab.collect();
    }
    assert!(lab.connection.closed().is_some(), "50 s after a close that was bounded by 15 s");
}

/// Half a character is no JSON. Nothing can be told from such a line, and that is said.
#[test]
fn a_line_with_half_a_character_in_a_name_is_malformed_and_counted() {
    let mut lab = Lab::ready();
    let (key, _) = lab.turn("T", "U");
    lab.say_bytes(
        b"{\"method\":\"turn/completed\",\"params\":{\"\\ud800\":1,\"threadId\":\"T\",\"turn\":{\"id\":\"U\",\"status\":\"completed\"}}}\n",
    );
    assert_eq!(lab.connection.turn_state(key), Some(State::Running));
    assert_eq!(lab.connection.counters().malformed, 1);
}

#[test]
fn a_turn_whose_end_was_too_long_a_line_ends_when_its_thread_is_idle_and_runs_another_turn() {
    let mut lab = Lab::ready_with(config(|config| config.limits.max_line = 4096));
    let (key, _) = lab.turn("T", "U");
    lab.notify("turn/started", json!({"threadId": "T", "turn": {"id": "U", "status": "inProgress"}}));
    lab.notify("thread/status/changed", json!({"threadId": "T", "status": {"type": "idle"}}));
    let (method, mut params) = completed("T", "U", "completed");
    params["turn"]["padding"] = "x".repeat(5000).into();
    lab.notify(method, params);
    // Another client's turn: the server runs one at a time, so ours is over.
    lab.notify("thread/status/changed", json!({"threadId": "T", "status": {"type": "active"}}));
    lab.notify("turn/started", json!({"threadId": "T", "turn": {"id": "V", "status": "inProgress"}}));
    lab.pass(Duration::from_secs(3600));
    assert!(lab.connection.turn_state(key).is_some_and(State::is_end), "{:?}", lab.connection.turn_state(key));
}

/// Reads what it has, then panics.
struct PanickyReader(VecDeque<u8>);

impl Read for PanickyReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        assert!(!self.0.is_empty(), "this panic is the test's");
        let count = buffer.len().min(self.0.len());
        for (to, from) in buffer.iter_mut().zip(self.0.drain(..count)) {
            *to = from;
        }
        Ok(count)
    }
}

#[test]
fn a_reader_that_panics_ends_the_connection() {
    bounded(|| {
        let answer = b"{\"id\":1,\"result\":{\"userAgent\":\"lab/0.163.0 (Linux) lab\"}}\n";
        // The answer comes before the question, so wait for the question: the reader is slow.
        struct Slow(PanickyReader);
        impl Read for Slow {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                thread::sleep(Duration::from_millis(200));
                self.0.read(buffer)
            }
        }
        let reader = Slow(PanickyReader(answer.iter().copied().collect()));
        let codex = turnwire_blocking::connect(reader, io::sink()).expect("the handshake succeeds");
        // On tokio and smol the driver's task dies of it, and this ends.
        codex.closed()
    });
}

/// Writes the handshake, then panics.
struct PanickyWriter(usize);

impl Write for PanickyWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += 1;
        assert!(self.0 < 2, "this panic is the test's");
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_writer_that_panics_ends_the_connection() {
    bounded(|| {
        struct Slow(VecDeque<u8>);
        impl Read for Slow {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                thread::sleep(if self.0.is_empty() { Duration::from_secs(3600) } else { Duration::from_millis(200) });
                let count = buffer.len().min(self.0.len());
                for (to, from) in buffer.iter_mut().zip(self.0.drain(..count)) {
                    *to = from;
                }
                Ok(count)
            }
        }
        let answer = b"{\"id\":1,\"result\":{\"userAgent\":\"lab/0.163.0 (Linux) lab\"}}\n";
        let reader = Slow(answer.iter().copied().collect());
        let codex = turnwire_blocking::connect(reader, PanickyWriter(0)).expect("the handshake succeeds");
        codex.closed()
    });
}

/// The executor of the documentation of `std::task::Wake`, word for word in meaning: a waker that unparks.
fn park_on<F: Future>(future: F) -> F::Output {
    struct Unpark(thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut cx = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut cx) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

#[test]
fn a_blocking_call_inside_another_executor_does_not_eat_that_executors_wakeup() {
    bounded(|| {
        let (reader, writer) = quiet_server(Duration::from_millis(300));
        let codex = turnwire_blocking::connect(reader, writer).expect("the handshake succeeds");
        let flag = Arc::new(AtomicUsize::new(0));
        let mut started = false;
        park_on(std::future::poll_fn(move |cx| {
            if flag.load(Ordering::SeqCst) == 1 {
                return Poll::Ready(());
            }
            if !started {
                started = true;
                let (waker, flag) = (cx.waker().clone(), Arc::clone(&flag));
                thread::spawn(move || {
                    thread::sleep(Duration::from_millis(100));
                    flag.store(1, Ordering::SeqCst);
                    waker.wake();
                });
                // Takes 300 ms, so the wake above comes in the middle of it.
                drop(codex.models());
            }
            Poll::Pending
        }));
    });
}

/// A server on a thread that answers everything with an empty object, each after a while.
fn quiet_server(delay: Duration) -> (impl Read + Send + 'static, impl Write + Send + 'static) {
    let (theirs, ours) = std::os::unix::net::UnixStream::pair().expect("a pair");
    thread::spawn(move || {
        let mut lines = io::BufRead::lines(io::BufReader::new(theirs.try_clone().expect("a clone")));
        let mut out = theirs;
        while let Some(Ok(line)) = lines.next() {
            let line: Value = serde_json::from_str(&line).expect("JSON");
            if !line["id"].is_null() {
                thread::sleep(delay);
                let result = json!({"userAgent": "lab/0.163.0 (Linux) lab", "data": []});
                if writeln!(out, "{}", json!({"id": line["id"], "result": result})).is_err() {
                    return;
                }
            }
        }
    });
    (ours.try_clone().expect("a clone"), ours)
}

#[test]
fn params_may_look_at_the_session_while_they_are_encoded() {
    bounded(|| {
        let (reader, writer) = quiet_server(Duration::ZERO);
        let codex = turnwire_blocking::connect(reader, writer).expect("the handshake succeeds");
        struct Curious(turnwire_blocking::Codex);
        impl serde::Serialize for Curious {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_u64(self.0.counters().lines)
            }
        }
        let answer = codex.request_raw("x/y", Curious(codex.clone()));
        assert!(answer.is_ok());
    });
}

#[test]
fn params_that_panic_while_they_are_encoded_leave_nothing_behind() {
    bounded(|| {
        let (reader, writer) = quiet_server(Duration::ZERO);
        let codex = turnwire_blocking::connect(reader, writer).expect("the handshake succeeds");
        struct Panicky;
        impl serde::Serialize for Panicky {
            fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
                panic!("this panic is the test's")
            }
        }
        for _ in 0..100 {
            let other = codex.clone();
            assert!(thread::spawn(move || other.request_raw("x/y", Panicky).is_ok()).join().is_err());
        }
        assert_eq!(codex.counters().requests, 0);
    });
}

// --- Memory ---

#[test]
fn a_flood_of_requests_that_the_server_does_not_read_the_answers_of_ends_the_connection() {
    let mut lab = Lab::ready_with(config(|config| config.limits.max_unsent_bytes = 4096));
    for id in 0..10_000 {
        lab.say(json!({"id": id, "method": "item/commandExecution/requestApproval",
            "params": {"threadId": "T", "turnId": "U", "itemId": "I"}}));
    }
    let unsent: usize = lab.sent().iter().map(|line| line.to_string().len() + 1).sum();
    assert!(
        lab.connection.closed().is_some() || lab.connection.wants_close_write() || unsent <= 8192,
        "{unsent} bytes of answers were kept, past `max_unsent_bytes` = 4096, and the connection goes on"
    );
}

#[test]
fn a_flood_of_requests_for_the_time_is_bounded_too() {
    let mut lab = Lab::ready_with(config(|config| config.limits.max_unsent_bytes = 4096));
    for id in 0..10_000 {
        lab.connection.handle_input(lab.now, format!("{{\"id\":{id},\"method\":\"currentTime/read\"}}\n").as_bytes());
    }
    let mut wanted = 0;
    while let Some(event) = lab.connection.poll_event() {
        wanted += usize::from(matches!(event, Event::TimeWanted(_)));
    }
    assert!(lab.connection.wants_close_write() || wanted <= 1000, "{wanted} requests are kept");
}

#[test]
fn unread_notifications_that_are_no_deltas_are_bounded() {
    let limit = 64 * 1024;
    for scope in [Scope::Connection, Scope::Thread("T".into())] {
        let mut lab = Lab::ready_with(config(|config| config.limits.max_unread_bytes = limit));
        let _unread = lab.connection.subscribe(scope.clone());
        for count in 0..20_000 {
            let params = match &scope {
                Scope::Connection => json!({"processId": "p", "deltaBase64": "AAAA", "count": count}),
                _ => json!({"threadId": "T", "name": format!("name {count}")}),
            };
            lab.notify("command/exec/outputDelta", params);
        }
        let held = lab.connection.counters().unread_bytes;
        assert!(held <= 2 * limit, "{held} bytes are held for {scope:?}, past `max_unread_bytes` = {limit}");
    }
}

#[test]
fn unread_diagnostics_of_garbage_are_bounded() {
    let limit = 64 * 1024;
    let mut lab = Lab::ready_with(config(|config| config.limits.max_unread_bytes = limit));
    let _unread = lab.connection.subscribe(Scope::Connection);
    for _ in 0..20_000 {
        lab.say_bytes(b"WARN a banner that is no message\n");
    }
    let held = lab.connection.counters().unread_bytes;
    assert!(held <= 2 * limit, "{held} bytes are held, past `max_unread_bytes` = {limit}");
}

#[test]
fn gaps_do_not_pile_up_for_a_reader_that_never_reads_while_another_does() {
    let limit = 64 * 1024;
    let mut lab = Lab::ready_with(config(|config| config.limits.max_unread_bytes = limit));
    let (key, reads) = lab.turn("T", "U");
    let _never_reads = lab.connection.subscribe(Scope::Turn(key));
    for count in 0..20_000 {
        let (method, params) = delta("T", "U", "I", &format!("{count} and some more text;"));
        lab.notify(method, params);
        let _ = lab.read(reads);
    }
    let held = lab.connection.counters().unread_bytes;
    assert!(held <= 2 * limit, "{held} bytes are held, past `max_unread_bytes` = {limit}");
}

#[test]
fn a_reader_that_keeps_up_loses_nothing_because_another_does_not() {
    let mut lab = Lab::ready_with(config(|config| config.limits.max_unread_bytes = 16 * 1024));
    let (key, _never_reads) = lab.turn("T", "U");
    let reads = lab.connection.subscribe(Scope::Turn(key));
    for count in 0..1000 {
        let (method, params) = delta("T", "U", "I", &format!("{count}"));
        lab.notify(method, params);
        assert_eq!(lab.read(reads), [format!("delta I {count}")], "event {count}");
    }
}

#[test]
fn what_is_parked_for_a_turn_without_a_name_is_bounded_in_bytes() {
    // There is no getter for it, so the memory of the program is looked at.
    let text = "x".repeat(64 * 1024);
    let before = resident();
    let mut lab = Lab::ready_with(config(|config| config.limits.max_unread_bytes = 1 << 20));
    let _ = lab.start_turn("T");
    for _ in 0..3000 {
        let (method, params) = delta("T", "U", "I", &text);
        lab.notify(method, params);
    }
    let grown = resident().saturating_sub(before);
    assert!(grown < 64 << 20, "{} MiB more are resident for a bound of 1 MiB", grown >> 20);
}

fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages: usize = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("a number");
    pages * 4096
}

/// A transport on which nothing ever happens after the handshake.
struct Still {
    input: Arc<Mutex<VecDeque<u8>>>,
    asked: Arc<Mutex<Vec<u8>>>,
}

impl Still {
    fn new() -> Self {
        let answer = b"{\"id\":1,\"result\":{\"userAgent\":\"lab/0.163.0 (Linux) lab\"}}\n";
        Self { input: Arc::new(Mutex::new(answer.iter().copied().collect())), asked: Arc::default() }
    }
}

impl Transport for Still {
    fn poll_read(&mut self, _: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut input = self.input.lock().expect("no poison");
        if input.is_empty() || self.asked.lock().expect("no poison").is_empty() {
            return Poll::Pending;
        }
        let count = buffer.len().min(input.len());
        for (to, from) in buffer.iter_mut().zip(input.drain(..count)) {
            *to = from;
        }
        Poll::Ready(Ok(count))
    }

    fn poll_write(&mut self, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.asked.lock().expect("no poison").extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close_write(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }

    fn poll_deadline(&mut self, _: &mut Context<'_>, _: Option<Time>) -> Poll<()> {
        Poll::Pending
    }

    fn poll_exit(&mut self, _: &mut Context<'_>) -> Poll<ExitReport> {
        Poll::Pending
    }

    fn expects_exit(&self) -> bool {
        false
    }

    fn evidence(&self) -> Option<ExitReport> {
        None
    }
}

/// A waker that counts, and says whether somebody still keeps it.
#[derive(Default)]
struct Counting(AtomicUsize);

impl Wake for Counting {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn the_wakers_of_waits_that_were_given_up_are_not_kept() {
    let (codex, driver) = connect(Config::default(), Still::new());
    let mut driver = pin!(driver);
    assert!(driver.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    assert!(codex.server().is_some());
    let wakers: Vec<Arc<Counting>> = (0..1000).map(|_| Arc::default()).collect();
    for waker in &wakers {
        // Each is a task that waits for a while and gives up.
        let waker = Waker::from(Arc::clone(waker));
        let mut closed = Box::pin(codex.closed());
        assert!(closed.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    }
    let kept = wakers.iter().filter(|waker| Arc::strong_count(waker) > 1).count();
    assert_eq!(kept, 0, "of 1000 are kept as long as the connection lives");
}

#[test]
fn a_driver_that_is_polled_with_a_new_waker_does_not_wake_the_old_one() {
    let (_codex, driver) = connect(Config::default(), Still::new());
    let mut driver = pin!(driver);
    let counting: Vec<Arc<Counting>> = (0..10).map(|_| Arc::default()).collect();
    for waker in &counting {
        let waker = Waker::from(Arc::clone(waker));
        assert!(driver.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    }
    // With an executor that makes a waker for each poll this is a loop that never sleeps.
    let woken: usize = counting.iter().skip(1).map(|waker| waker.0.load(Ordering::SeqCst)).sum();
    assert_eq!(woken, 0, "nothing has happened since the second poll");
}

/// A waker that panics does not keep the others from being woken.
#[test]
fn a_waker_that_panics_does_not_cost_the_others_their_wakeup() {
    struct Panicky;
    impl Wake for Panicky {
        fn wake(self: Arc<Self>) {
            panic!("this panic is the test's")
        }
    }
    let (codex, driver) = connect(Config::default(), Still::new());
    let mut driver = Box::pin(driver);
    assert!(driver.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    let (panicky, patient) = (Waker::from(Arc::new(Panicky)), Arc::new(Counting::default()));
    let (mut first, mut second) = (Box::pin(codex.closed()), Box::pin(codex.closed()));
    assert!(first.as_mut().poll(&mut Context::from_waker(&panicky)).is_pending());
    let waker = Waker::from(Arc::clone(&patient));
    assert!(second.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    let _ = panic::catch_unwind(panic::AssertUnwindSafe(|| drop(driver)));
    assert_eq!(patient.0.load(Ordering::SeqCst), 1);
}

// --- Small print ---

#[test]
fn requests_that_timed_out_unsent_do_not_fill_the_queue() {
    let mut lab = Lab::new(config(|config| {
        config.limits.max_queued_requests = 2;
        config.timeouts.call = Duration::from_secs(1);
    }));
    let _ = lab.sent();
    for _ in 0..2 {
        let models = lab.connection.request(lab.now, &ModelList::new()).expect("there is room");
        lab.pass(Duration::from_secs(1));
        assert!(lab.connection.take_response(&models).expect("it timed out").is_err());
    }
    assert!(!lab.connection.has_transmit(), "there is nothing to send");
    assert!(lab.connection.request(lab.now, &ModelList::new()).is_ok(), "nothing is queued");
}

#[test]
fn nothing_is_written_before_the_handshake() {
    let mut connection = Connection::new(Time::ZERO, Config::default());
    let early = connection.notify("x/y", &json!({}));
    let mut out = Vec::new();
    connection.poll_transmit(Time::ZERO, &mut out);
    assert!(early.is_err() || out.starts_with(b"{\"id\":1,\"method\":\"initialize\""));
}

#[test]
fn what_was_left_out_before_the_turns_name_is_told_though_the_turn_has_ended() {
    let mut lab = Lab::ready_with(config(|config| config.limits.max_parked_events = 1));
    let (_, reader, id) = lab.start_turn("T");
    for text in ["a", "b", "c"] {
        let (method, params) = delta("T", "U", "I", text);
        lab.notify(method, params);
    }
    let (method, params) = completed("T", "U", "completed");
    lab.notify(method, params);
    lab.say(named(&id, "U"));
    let seen = lab.read(reader);
    assert!(seen.contains(&"gap 2".to_owned()), "{seen:?}");
}

// --- Second round ---

#[test]
fn closing_a_session_over_a_blocking_socket_does_not_take_the_whole_bound_and_keep_a_thread() {
    bounded(|| {
        let (reader, writer) = quiet_server(Duration::ZERO);
        let codex = turnwire_blocking::connect(reader, writer).expect("the handshake succeeds");
        // The server ends as soon as its input does, and on tokio and smol this takes no time.
        codex.close()
    });
}

#[test]
fn long_names_count_towards_the_bound_of_what_is_unread() {
    let before = resident();
    let mut lab = Lab::ready_with(config(|config| config.limits.max_unread_bytes = 1 << 20));
    let _unread = lab.connection.subscribe(Scope::Thread("T".into()));
    for count in 0..2000 {
        let (method, params) = delta("T", "U", &format!("{count}{}", "i".repeat(100_000)), "x");
        lab.notify(method, params);
    }
    let grown = resident().saturating_sub(before);
    let counted = lab.connection.counters().unread_bytes;
    assert!(grown < 64 << 20, "{} MiB more are resident for a bound of 1 MiB; {counted} bytes counted", grown >> 20);
}

#[test]
fn a_request_of_the_server_that_is_too_long_a_line_is_refused_all_the_same() {
    let mut lab = Lab::ready_with(config(|config| config.limits.max_line = 4096));
    let (_, _) = lab.turn("T", "U");
    let padding = "x".repeat(5000);
    lab.say_bytes(
        format!(
            "{{\"method\":\"item/fileChange/requestApproval\",\"id\":7,\"params\":{{\"threadId\":\"T\",\"turnId\":\"U\",\
             \"reason\":\"{padding}\"}}}}\n"
        )
        .as_bytes(),
    );
    let sent = lab.sent();
    assert!(sent.iter().any(|line| line["id"] == 7), "silence stalls the turn for ever");
}

#[test]
fn an_interrupt_that_is_refused_again_and_again_is_not_sent_for_each_sign_of_life() {
    let mut lab = Lab::ready();
    let (key, _) = lab.turn("T", "U");
    lab.connection.interrupt(lab.now, key).expect("the turn is there");
    let mut sent = 0;
    for _ in 0..1000 {
        let (method, params) = delta("T", "U", "I", "x");
        lab.notify(method, params);
        for line in lab.sent() {
            assert_eq!(line["method"], "turn/interrupt");
            sent += 1;
            lab.say(json!({"id": line["id"], "error": {"code": -32600, "message": "no active turn to interrupt"}}));
        }
    }
    assert!(sent <= 10, "sent {sent} times");
}

#[test]
fn steers_keep_to_the_number_of_requests_that_the_server_takes_at_once() {
    let mut lab = Lab::ready();
    let (key, _) = lab.turn("T", "U");
    for _ in 0..1000 {
        drop(lab.connection.steer(lab.now, key, vec![UserInput::text("Faster.")]));
    }
    let sent = lab.sent().len();
    assert!(sent <= 160, "{sent} at once, where servers drop what exceeds about 160");
}

/// After `thread/unsubscribe` the server tells of the thread's state only.
#[test]
fn a_turn_that_is_no_longer_told_about_ends_some_time_after_its_thread_is_idle() {
    let mut lab = Lab::ready();
    let (key, _) = lab.turn("T", "U");
    lab.notify("turn/started", json!({"threadId": "T", "turn": {"id": "U", "status": "inProgress"}}));
    let gone = lab.connection.request_raw(lab.now, "thread/unsubscribe", &json!({"threadId": "T"})).expect("sent");
    let id = lab.sent_one()["id"].clone();
    lab.say(json!({"id": id, "result": {"status": "unsubscribed"}}));
    assert!(lab.connection.take_raw(&gone).expect("answered").is_ok());
    lab.notify("thread/status/changed", json!({"threadId": "T", "status": {"type": "idle"}}));
    lab.pass(Duration::from_secs(3600));
    assert!(lab.connection.turn_state(key).is_some_and(State::is_end), "{:?}", lab.connection.turn_state(key));
}

/// What `timeout` and `select!` do: one look, then the future is dropped.
#[test]
fn a_turn_whose_future_is_dropped_before_the_driver_moved_is_not_started() {
    let transport = Still::new();
    let asked = Arc::clone(&transport.asked);
    let (codex, driver) = connect(Config::default(), transport);
    let mut driver = pin!(driver);
    let mut cx = Context::from_waker(Waker::noop());
    assert!(driver.as_mut().poll(&mut cx).is_pending());
    assert!(codex.server().is_some());
    let thread = codex.thread("T");
    {
        let mut run = pin!(thread.run("Delete everything."));
        assert!(run.as_mut().poll(&mut cx).is_pending());
    }
    assert!(driver.as_mut().poll(&mut cx).is_pending());
    let written = String::from_utf8(asked.lock().expect("no poison").clone()).expect("UTF-8");
    assert!(!written.contains("turn/start"), "it had not been handed over when it was given up");
}

/// A clock that is moved by hand.
#[derive(Clone, Default)]
struct Hand(Arc<AtomicU64>);

impl Clock for Hand {
    fn now(&self) -> Time {
        Time::from_nanos(self.0.load(Ordering::SeqCst))
    }

    fn unix_seconds(&self) -> u64 {
        0
    }
}

/// An answer that lies in the pipe when its time is up is an answer, however late the driver is polled.
#[test]
fn what_came_in_time_is_heard_by_a_driver_that_comes_too_late() {
    let (hand, transport) = (Hand::default(), Still::new());
    let input = Arc::clone(&transport.input);
    let (codex, driver) = connect_with_clock(Config::default(), transport, Arc::new(hand.clone()));
    let mut driver = pin!(driver);
    let cx = &mut Context::from_waker(Waker::noop());
    assert!(driver.as_mut().poll(cx).is_pending());
    let mut ask = pin!(codex.request_raw("ask", json!({})));
    let mut other = pin!(codex.request_raw("other", json!({})));
    assert!(ask.as_mut().poll(cx).is_pending() && other.as_mut().poll(cx).is_pending());
    assert!(driver.as_mut().poll(cx).is_pending());
    // More than is read at once, with the answer at its end.
    let noise = format!("{{\"method\":\"x\",\"params\":{{\"text\":\"{}\"}}}}\n", "x".repeat(100_000)).repeat(5);
    input.lock().expect("no poison").extend(format!("{noise}{{\"id\":2,\"result\":\"in time\"}}\n").into_bytes());
    hand.0.store(3_600_000_000_000, Ordering::SeqCst);
    assert!(driver.as_mut().poll(cx).is_pending());
    let Poll::Ready(Ok(answer)) = ask.as_mut().poll(cx) else { panic!("it was given up") };
    assert_eq!(answer.as_str(), "\"in time\"");
    assert!(matches!(other.as_mut().poll(cx), Poll::Ready(Err(_))), "and nothing was said to the other");
}
