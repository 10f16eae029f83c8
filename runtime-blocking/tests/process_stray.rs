//! A helper that left the server's group and keeps its pipes: no thread of this program stays for it.
#![cfg(target_os = "linux")]

mod process_support;

use process_support::{Folder, end_stray, eventually, ladder};
use std::{fs, time::Duration};
use turnwire_blocking::{Config, core::launch::Command};

/// How many threads of the crate there are.
fn threads() -> usize {
    let tasks = fs::read_dir("/proc/self/task").unwrap().flatten();
    let names = tasks.filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
    names.filter(|name| name.starts_with("turnwire-")).count()
}

#[test]
fn pr_15_no_thread_stays_for_a_helper_that_keeps_the_pipes_open() {
    let folder = Folder::new();
    let reply = r#"{"id":1,"result":{"userAgent":"x/0.163.0 (Linux)","codexHome":"/","platformFamily":"unix","platformOs":"linux"}}"#;
    let id = folder.path().join("id");
    let body = format!(
        "read -r line; printf '%s\\n' '{reply}'; read -r line; exec 3<&0; setsid sleep 60 <&3 & echo $! >{}; sleep 0.5; exit 3",
        id.display()
    );
    let command = Command::new().program(folder.script("codex", &body)).close_ladder(ladder());
    let mut config = Config::default();
    config.timeouts.drain = Duration::from_millis(200);
    let codex = turnwire_blocking::spawn_with(&command, config).unwrap();
    // More than the pipe holds, so that the thread that writes is in the middle of it.
    let text = "x".repeat(1 << 20);
    let error = codex.request_raw("big", [text]).unwrap_err();
    assert!(error.is_closed(), "{error}");
    drop(codex);
    eventually("all threads are gone", || threads() == 0);
    end_stray(fs::read_to_string(id).unwrap().trim().parse().unwrap());
}
