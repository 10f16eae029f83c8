//! Two hundred lives and deaths leave nothing behind. Alone in its binary: it counts what the whole process has.
#![cfg(target_os = "linux")]

mod process_support;

use process_support::{Folder, LONG, Lines, end_stray, eventually, ladder};
use std::{
    fs,
    io::{BufRead, BufReader, Write},
};
use turnwire_blocking::process::{Process, spawn};
use turnwire_core::launch::Command;

/// Threads, descriptors and children (zombies included) of this process.
fn count() -> (usize, usize, usize) {
    let entries = |path| fs::read_dir(path).unwrap().count();
    let own = format!("{}", std::process::id());
    let is_child = |stat: &str| stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(1)) == Some(&own);
    let children = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| fs::read_to_string(entry.ok()?.path().join("stat")).ok())
        .filter(|stat| is_child(stat))
        .count();
    (entries("/proc/self/task"), entries("/proc/self/fd"), children)
}

#[test]
fn pr_15_two_hundred_cycles_leave_no_thread_descriptor_or_process() {
    let folder = Folder::new();
    let server = folder.script("server", "sleep 600 & while read -r line; do echo \"got $line\"; done");
    let failing = folder.script("failing", "echo 'no config' >&2; exit 3");
    let orphan = folder.file("orphan", "");
    fs::set_permissions(&orphan, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    fs::write(&orphan, "#!/nowhere/node\n").unwrap();
    let command = |program| Command::new().program(program).close_ladder(ladder());

    let cycle = |i: usize| match i % 10 {
        4 => assert!(spawn(&command(&orphan)).is_err()),
        9 => {
            let process = spawn(&command(&failing)).unwrap();
            let report = process.owner.wait_exit(LONG).unwrap();
            assert_eq!(report.status.unwrap().code, Some(3));
            assert_eq!(report.stderr_tail(), "no config\n");
        }
        _ => {
            let Process { mut stdin, stdout, owner, .. } = spawn(&command(&server)).unwrap();
            stdin.write_all(b"a\n").unwrap();
            assert_eq!(Lines::of(stdout).next(), "got a");
            if i % 2 == 0 {
                drop(stdin);
                owner.close();
                assert!(owner.wait_exit(LONG).unwrap().status.unwrap().is_success());
            }
        }
    };
    // The first uses are allowed to leave something for good.
    (0..10).for_each(cycle);
    let mut before = count();
    eventually("the warm-up has settled", || {
        std::thread::sleep(std::time::Duration::from_millis(700));
        let last = std::mem::replace(&mut before, count());
        last == before && before.2 == 0
    });
    (0..200).for_each(cycle);
    eventually("all is as it was before", || count() == before);

    // A stray that left the group and holds stderr and stdout open keeps nothing of ours alive.
    let process = spawn(&command(&folder.script("stray", "setsid sleep 60 & echo $!; sleep 0.2"))).unwrap();
    let mut line = String::new();
    BufReader::new(process.stdout).read_line(&mut line).unwrap();
    drop((process.stdin, process.owner));
    eventually("all is as it was before, though a stray lives", || count() == before);
    end_stray(line.trim().parse().unwrap());
}
