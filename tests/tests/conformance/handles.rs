//! What the handles are, checked by the compiler.

use turnwire_blocking as blocking;
use turnwire_smol as smol_rt;
use turnwire_tokio as tokio_rt;

fn handle<T: Clone + Send + Sync + 'static>() {}
fn send<T: Send>(_: &T) {}

#[test]
fn ad_03_handles_are_clone_send_sync_and_static_in_every_runtime() {
    handle::<tokio_rt::Codex>();
    handle::<tokio_rt::Thread>();
    handle::<tokio_rt::Turn>();
    handle::<smol_rt::Codex>();
    handle::<smol_rt::Thread>();
    handle::<smol_rt::Turn>();
    handle::<blocking::Codex>();
    handle::<blocking::Thread>();
    handle::<blocking::Turn>();
}

#[test]
fn ad_03_futures_and_streams_are_send() {
    // Never run: the compiler's word is all that is wanted.
    #[allow(dead_code, reason = "only compiled")]
    fn futures(
        codex: &tokio_rt::Codex,
        thread: &tokio_rt::Thread,
        turn: &tokio_rt::Turn,
        events: &mut tokio_rt::Events,
    ) {
        use tokio_rt::protocol::ThreadStart;
        send(&codex.ready());
        send(&codex.request(ThreadStart::new()));
        send(&codex.request_raw("m", ()));
        send(&codex.thread_start(ThreadStart::new()));
        send(&codex.models());
        send(&codex.close());
        send(&codex.closed());
        send(&thread.run("x"));
        send(&thread.turn("x"));
        send(&turn.next());
        send(&turn.result());
        send(&turn.steer("x"));
        send(&turn.interrupt());
        send(&events.next());
        let command = tokio_rt::Command::new();
        send(&tokio_rt::spawn(&command));
        send(&smol_rt::spawn(&command));
        send(&tokio_rt::connect(tokio::io::empty(), tokio::io::sink()));
        send(&smol_rt::connect(smol::io::empty(), smol::io::sink()));
    }
    fn streams<T: Send + 'static>() {}
    streams::<tokio_rt::Events>();
    streams::<smol_rt::Events>();
    streams::<blocking::Events>();
    fn polled<T: smol::stream::Stream + Send + Unpin + 'static>() {}
    polled::<tokio_rt::Events>();
    polled::<tokio_rt::Tree>();
    polled::<tokio_rt::Turn>();
    polled::<tokio_rt::TurnSet>();
    polled::<tokio_rt::Turns>();
    polled::<smol_rt::Turn>();
}
