//! Two hundred sessions on each runtime leave nothing behind. Alone in its binary: it counts what the whole process has.
#![cfg(target_os = "linux")]

use std::{
    cell::RefCell,
    fs,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};
use turnwire_testkit::scripted::{Rule, Script};

const SERVER: &str = env!("CARGO_BIN_EXE_turnwire-scripted-server");

/// Threads, descriptors and children (zombies included) of this process.
fn count() -> (usize, usize, usize) {
    let entries = |path| fs::read_dir(path).expect("Linux").count();
    let own = format!("{}", std::process::id());
    let is_child = |stat: &str| stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(1)) == Some(&own);
    let stats = fs::read_dir("/proc").expect("Linux");
    let stats = stats.filter_map(|entry| fs::read_to_string(entry.ok()?.path().join("stat")).ok());
    (entries("/proc/self/task"), entries("/proc/self/fd"), stats.filter(|stat| is_child(stat)).count())
}

struct Scripts(PathBuf);

impl Scripts {
    fn new() -> Self {
        let folder = std::env::temp_dir().join(format!("turnwire-cycles-{}", std::process::id()));
        fs::create_dir(&folder).expect("a new folder");
        fs::write(folder.join("good.json"), Script::new().to_json()).expect("a script");
        let failing = Script::new().rule(Rule::on("initialize").stderr("no config\n").exit(3));
        fs::write(folder.join("failing.json"), failing.to_json()).expect("a script");
        Self(folder)
    }

    fn command(&self, script: &str) -> turnwire_blocking::Command {
        turnwire_blocking::Command::new().program(SERVER).env("TURNWIRE_SCRIPT", self.0.join(script))
    }
}

impl Drop for Scripts {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Warms up, then compares what there is before and after two hundred cycles, of which a fifth fail.
fn compare(name: &str, cycle: impl Fn(usize)) {
    let settled = |wanted: Option<(usize, usize, usize)>| {
        let (start, mut last) = (Instant::now(), count());
        while start.elapsed() < Duration::from_secs(20) {
            thread::sleep(Duration::from_millis(300));
            let now = count();
            match wanted {
                // A pool of threads may have shrunk meanwhile.
                Some(wanted) if now.0 <= wanted.0 && now.1 <= wanted.1 && now.2 <= wanted.2 => return now,
                None if now == last && now.2 == 0 => return now,
                _ => last = now,
            }
        }
        last
    };
    (0..10).for_each(&cycle);
    let before = settled(None);
    (0..200).for_each(&cycle);
    let after = settled(Some(before));
    assert!(
        after.0 <= before.0 && after.1 <= before.1 && after.2 == 0,
        "{name}: threads, descriptors, children: {before:?}, then {after:?}"
    );
}

#[test]
fn pr_15_two_hundred_sessions_on_each_runtime_leave_no_thread_descriptor_or_process() {
    let scripts = Scripts::new();
    let (good, failing) = (scripts.command("good.json"), scripts.command("failing.json"));
    // What a program still holds of a session that is closed keeps none of these either.
    let (on_threads, on_tokio, on_smol) =
        (RefCell::new(Vec::new()), RefCell::new(Vec::new()), RefCell::new(Vec::new()));
    compare("threads", |n| {
        if n % 5 == 4 {
            return assert!(turnwire_blocking::spawn(&failing).is_err());
        }
        let codex = turnwire_blocking::lazy(&good, turnwire_blocking::Config::default());
        assert!(codex.models().is_ok());
        if n % 2 == 0 {
            codex.close();
            on_threads.borrow_mut().push((codex.events(), codex));
        }
    });
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    compare("tokio", |n| {
        runtime.block_on(async {
            if n % 5 == 4 {
                return assert!(turnwire_tokio::spawn(&failing).await.is_err());
            }
            let codex = turnwire_tokio::spawn(&good).await.expect("connects");
            assert!(codex.models().await.is_ok());
            if n % 2 == 0 {
                codex.close().await;
                on_tokio.borrow_mut().push((codex.events(), codex));
            }
        });
    });
    drop(runtime);
    compare("smol", |n| {
        smol::block_on(async {
            if n % 5 == 4 {
                return assert!(turnwire_smol::spawn(&failing).await.is_err());
            }
            let codex = turnwire_smol::lazy(&good, turnwire_smol::Config::default());
            assert!(codex.models().await.is_ok());
            if n % 2 == 0 {
                codex.close().await;
                on_smol.borrow_mut().push((codex.events(), codex));
            }
        });
    });
    assert_eq!([on_threads.take().len(), on_tokio.take().len(), on_smol.take().len()], [84; 3]);
}
