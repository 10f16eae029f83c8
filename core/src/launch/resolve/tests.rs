use super::*;
use alloc::{string::ToString, vec};

fn paths(program: &Program, codex_bin: Option<&str>, path: Option<&str>, pathext: Option<&str>) -> Vec<String> {
    let all = candidates(program, codex_bin.map(OsStr::new), path.map(OsStr::new), pathext.map(OsStr::new));
    all.iter().map(|candidate| candidate.path.display().to_string()).collect()
}

fn explicit(path: &str) -> Program {
    Program::Explicit(path.into())
}

#[test]
fn pr_12_an_explicit_path_is_the_only_candidate() {
    let all = candidates(&explicit("/opt/codex"), Some(OsStr::new("/bin/other")), Some(OsStr::new("/usr/bin")), None);
    assert_eq!(all, [Candidate { origin: Origin::Explicit, path: "/opt/codex".into() }]);
    assert_eq!(paths(&explicit("./codex"), None, Some("/usr/bin"), None), ["./codex"]);
}

#[test]
fn pr_12_the_variable_comes_before_the_search_path_and_hides_it() {
    let all = candidates(&Program::Search, Some(OsStr::new("/opt/codex")), Some(OsStr::new("/usr/bin")), None);
    assert_eq!(all, [Candidate { origin: Origin::Variable, path: "/opt/codex".into() }]);
}

#[cfg(unix)]
#[test]
fn pr_12_an_empty_variable_counts_as_unset() {
    let all = candidates(&Program::Search, Some(OsStr::new("")), Some(OsStr::new("/usr/bin:/bin")), None);
    let folder = |path: &str| Candidate { origin: Origin::SearchPath, path: path.into() };
    assert_eq!(all, [folder("/usr/bin/codex"), folder("/bin/codex")]);
}

#[cfg(unix)]
#[test]
fn entries_of_the_search_path_that_depend_on_the_current_folder_are_passed_over() {
    assert_eq!(paths(&Program::Search, None, Some(":/a:.:bin:/a:/b/:"), None), ["/a/codex", "/b/codex"]);
    assert_eq!(paths(&Program::Search, None, None, None), [""; 0]);
}

#[cfg(unix)]
#[test]
fn a_bare_name_is_looked_up_in_the_search_path_under_that_name_only() {
    assert_eq!(paths(&explicit("nightly"), Some("/x"), Some("/a:/b"), None), ["/a/nightly", "/b/nightly"]);
    assert_eq!(paths(&Program::Search, Some("nightly"), Some("/a"), None), ["/a/nightly"]);
    for path in ["./nightly", "nightly/", "../nightly", "a/nightly"] {
        assert_eq!(paths(&explicit(path), None, Some("/a"), None), [path]);
    }
}

#[cfg(unix)]
#[test]
fn with_extensions_a_name_is_tried_with_each_of_them() {
    assert_eq!(paths(&Program::Search, None, Some("/a"), Some(".EXE;.CMD")), ["/a/codex.EXE", "/a/codex.CMD"]);
    assert_eq!(paths(&explicit("/a/codex.exe"), None, None, Some(".EXE;.CMD")), ["/a/codex.exe"]);
    assert_eq!(paths(&explicit("/a/codex.v2"), None, None, Some(" .EXE ;;x;.")), ["/a/codex.v2.EXE"]);
    assert_eq!(paths(&explicit("/a/codex"), None, None, Some("")).len(), 4);
}

#[test]
fn pr_14_the_errors_are_distinct_and_say_what_to_do() {
    let tried = |origin, path: &str| Tried::new(Candidate { origin, path: path.into() }, Obstacle::Missing);
    let searched = LaunchError::NotFound {
        tried: vec![tried(Origin::SearchPath, "/a/codex"), tried(Origin::SearchPath, "/b/codex")],
    };
    let text = searched.to_string();
    for part in ["/a/codex (in PATH, missing)", "/b/codex", "CODEX_BIN is not set", "npm install", "pip install"] {
        assert!(text.contains(part), "{text}");
    }
    let given = LaunchError::NotFound { tried: vec![tried(Origin::Explicit, "/x/codex")] }.to_string();
    assert!(given.contains("/x/codex (given explicitly, missing)") && given.contains("never replaced"), "{given}");
    let variable = LaunchError::NotFound { tried: vec![tried(Origin::Variable, "/x/codex")] }.to_string();
    assert!(variable.contains("CODEX_BIN is set"), "{variable}");
    let nowhere = LaunchError::NotFound { tried: vec![] }.to_string();
    assert!(nowhere.contains("PATH names no folder"), "{nowhere}");
    let blocked = LaunchError::NotExecutable { path: "/x/codex".into(), obstacle: Obstacle::NotExecutable }.to_string();
    assert!(blocked.contains("/x/codex") && blocked.contains("chmod +x"), "{blocked}");
    let spawn = |kind| LaunchError::Spawn { path: "/x/codex".into(), kind, message: "no such file".into() };
    let interpreter = spawn(io::ErrorKind::NotFound).to_string();
    assert!(interpreter.contains("/x/codex: no such file") && interpreter.contains("interpreter"), "{interpreter}");
}

#[test]
fn only_passing_troubles_of_the_system_are_retryable() {
    let spawn = |kind| LaunchError::Spawn { path: "/x".into(), kind, message: "".into() };
    assert!(spawn(io::ErrorKind::WouldBlock).is_retryable());
    assert!(spawn(io::ErrorKind::ExecutableFileBusy).is_retryable());
    assert!(!spawn(io::ErrorKind::NotFound).is_retryable());
    assert!(!LaunchError::NotFound { tried: vec![] }.is_retryable());
}
