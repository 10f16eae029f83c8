//! One suite for every runtime.
//!
//! The scenarios in `scripted/` and `real/` are written once, with `wait!` where an async client awaits and a
//! blocking one just calls, and are compiled once for each runtime. So the three clients have the same methods with the
//! same meaning, or this does not compile.

#![allow(missing_docs, reason = "a test suite documents itself by the names of its tests")]
#![allow(clippy::print_stderr, reason = "how much was cut, for who wants all of it")]
#![allow(unused_macros, unused_imports, reason = "not every file of scenarios needs every macro and name")]
#![allow(clippy::while_let_on_iterator, reason = "what is an iterator on threads is none elsewhere")]
#![allow(unused_braces, reason = "what is a block for one runtime is an argument for another")]

/// A scenario for the real server. That is a lane of its own: it takes two cores for minutes.
macro_rules! real_scenario {
    ($($scenario:tt)*) => {
        scenario! {
            #[ignore = "asks the real server: cargo test -p turnwire-testkit --test conformance ::real:: -- --ignored"]
            $($scenario)*
        }
    };
}

#[path = "../cut/mod.rs"]
mod cut;
#[macro_use]
mod support;
mod endings;
mod executors;
mod feed;
mod handles;
mod pipe;

mod on_threads {
    use turnwire_blocking as rt;

    type Joined<T> = std::thread::JoinHandle<T>;

    macro_rules! wait {
        ($call:expr) => {
            $call
        };
    }
    macro_rules! handler {
        ([$($shared:ident),*] |$request:ident| $body:expr) => {{
            $(let $shared = $shared.clone();)*
            move |$request| $body
        }};
    }
    macro_rules! serve {
        ($codex:expr, $handlers:expr) => {
            $codex.serve($handlers)
        };
    }
    macro_rules! go {
        ([$($shared:ident),*] $body:expr) => {{
            $(let $shared = $shared.clone();)*
            std::thread::spawn(move || $body)
        }};
    }
    macro_rules! join {
        ($handle:expr) => {
            $handle.join().expect("the thread did not panic")
        };
    }
    /// Waits until a request of the server has ended.
    macro_rules! ended {
        ($request:expr) => {
            rt::WaitClosed::wait_closed(&*$request)
        };
    }
    macro_rules! never {
        () => {
            std::thread::sleep(std::time::Duration::from_secs(3600))
        };
    }
    macro_rules! scenario {
        ($(#[$attribute:meta])* fn $name:ident() $body:block) => {
            #[test]
            $(#[$attribute])*
            fn $name() {
                crate::support::bounded(stringify!($name), || $body);
            }
        };
    }

    fn connect_in_memory(script: turnwire_testkit::scripted::Script) -> Result<rt::Codex, rt::ConnectError> {
        let (reader, writer, _serving) = turnwire_testkit::scripted::serve_duplex(script);
        rt::connect(reader, writer)
    }

    fn connect_to_recording(
        recording: turnwire_core::record::Recording,
    ) -> Result<(rt::Codex, turnwire_testkit::recorded::Replaying), rt::ConnectError> {
        let (reader, writer, replaying) = turnwire_testkit::recorded::recorded_duplex(recording);
        let mut config = rt::Config::default();
        config.limits.merge_after = None;
        Ok((rt::connect_with(reader, writer, config)?, replaying))
    }

    fn connect_to_feed(
        feed: &std::sync::Arc<crate::feed::Feed>,
        config: rt::Config,
    ) -> Result<rt::Codex, rt::ConnectError> {
        rt::connect_with(crate::feed::Reader::of(feed), crate::feed::Writer::of(feed), config)
    }

    include!("scenarios.rs");
}

mod on_tokio {
    use turnwire_tokio as rt;

    type Joined<T> = tokio::task::JoinHandle<T>;

    include!("asynchronous.rs");

    macro_rules! serve {
        ($codex:expr, $handlers:expr) => {
            crate::support::OnDrop(Some(tokio::spawn($codex.serve($handlers))), |task| task.abort())
        };
    }
    macro_rules! go {
        ([$($shared:ident),*] $body:expr) => {{
            $(let $shared = $shared.clone();)*
            tokio::spawn(async move { $body })
        }};
    }
    macro_rules! join {
        ($handle:expr) => {
            $handle.await.expect("the task did not panic")
        };
    }
    macro_rules! scenario {
        ($(#[$attribute:meta])* fn $name:ident() $body:block) => {
            #[test]
            $(#[$attribute])*
            fn $name() {
                crate::support::bounded(stringify!($name), || {
                    // One worker, and the scenario on its own thread: it may block to look at the server.
                    let mut runtime = tokio::runtime::Builder::new_multi_thread();
                    let runtime = runtime.worker_threads(1).enable_all().build().expect("a runtime");
                    runtime.block_on(async move { $body })
                });
            }
        };
    }

    include!("scenarios.rs");
}

mod on_smol {
    use turnwire_smol as rt;

    type Joined<T> = smol::Task<T>;

    include!("asynchronous.rs");

    macro_rules! serve {
        ($codex:expr, $handlers:expr) => {
            smol::spawn($codex.serve($handlers))
        };
    }
    macro_rules! go {
        ([$($shared:ident),*] $body:expr) => {{
            $(let $shared = $shared.clone();)*
            smol::spawn(async move { $body })
        }};
    }
    macro_rules! join {
        ($handle:expr) => {
            $handle.await
        };
    }
    macro_rules! scenario {
        ($(#[$attribute:meta])* fn $name:ident() $body:block) => {
            #[test]
            $(#[$attribute])*
            fn $name() {
                crate::support::bounded(stringify!($name), || smol::block_on(async move { $body }));
            }
        };
    }

    include!("scenarios.rs");
}
