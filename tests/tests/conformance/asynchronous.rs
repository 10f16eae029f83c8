// What the two asynchronous runtimes share. Included once for each, before the scenarios.

macro_rules! wait {
    ($call:expr) => {
        $call.await
    };
}

macro_rules! handler {
    ([$($shared:ident),*] |$request:ident| $body:expr) => {{
        $(let $shared = $shared.clone();)*
        move |$request| {
            $(let $shared = $shared.clone();)*
            async move { $body }
        }
    }};
}

macro_rules! ended {
    ($request:expr) => {
        $request.closed().await
    };
}

macro_rules! never {
    () => {
        std::future::pending::<()>().await
    };
}

async fn connect_in_memory(script: turnwire_testkit::scripted::Script) -> Result<rt::Codex, rt::ConnectError> {
    let (reader, writer) = crate::pipe::scripted(script);
    rt::connect(reader, writer).await
}

async fn connect_to_recording(
    recording: turnwire_core::record::Recording,
) -> Result<(rt::Codex, turnwire_testkit::recorded::Replaying), rt::ConnectError> {
    let (reader, writer, replaying) = crate::pipe::replaying(recording);
    let mut config = rt::Config::default();
    config.limits.merge_after = None;
    Ok((rt::connect_with(reader, writer, config).await?, replaying))
}

async fn connect_to_feed(
    feed: &std::sync::Arc<crate::feed::Feed>,
    config: rt::Config,
) -> Result<rt::Codex, rt::ConnectError> {
    rt::connect_with(crate::feed::Reader::of(feed), crate::feed::Writer::of(feed), config).await
}
